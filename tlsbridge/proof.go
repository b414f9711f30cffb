package tlsbridge

import (
	"context"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// proofError is a failure of what writes proofs to the DNS: no fault of the CA's, which was not even asked to look.
type proofError struct{ cause error }

func (e *proofError) Error() string { return e.cause.Error() }

func (e *proofError) Unwrap() error { return e.cause }

// dnsSolver proves by the DNS, and tells its own failures from the CA's.
type dnsSolver struct{ *certmagic.DNS01Solver }

// Present implements acmez.Solver.
func (s dnsSolver) Present(ctx context.Context, challenge acme.Challenge) error {
	return asProofError(s.DNS01Solver.Present(ctx, challenge))
}

// Wait implements acmez.Waiter.
func (s dnsSolver) Wait(ctx context.Context, challenge acme.Challenge) error {
	return asProofError(s.DNS01Solver.Wait(ctx, challenge))
}

func asProofError(err error) error {
	if err == nil {
		return nil
	}
	return &proofError{err}
}
