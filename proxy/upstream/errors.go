package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
)

var (
	// ErrNoTarget says that an upstream has no target that may get requests.
	ErrNoTarget = errors.New("the upstream has no target that is ready")
	// ErrUnreachable says that no connection to a target could be made, TLS included: nothing of the request was sent.
	ErrUnreachable = errors.New("no connection can be made")
)

// VisitorError says that the request itself broke off: its body could not be read to the end.
type VisitorError struct{ Err error }

// Error says what reading the body met.
func (e *VisitorError) Error() string { return "the visitor's request broke off: " + e.Err.Error() }

// Unwrap returns what reading the body met.
func (e *VisitorError) Unwrap() error { return e.Err }

func isVisitors(err error) bool {
	var visitors *VisitorError
	return errors.As(err, &visitors)
}

// Cause names, in one word for logs and metrics, why an attempt failed: "no_target", "full", "open", "canceled" (the visitor left),
// "request" (the visitor's request broke off), "dial", "timeout" or "broken".
func Cause(err error) string {
	switch {
	case errors.Is(err, ErrNoTarget):
		return "no_target"
	case errors.Is(err, ErrFull), errors.Is(err, ErrQueueTimeout):
		return "full"
	case errors.Is(err, ErrOpen):
		return "open"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case isVisitors(err):
		return "request"
	case errors.Is(err, ErrUnreachable):
		return "dial"
	case IsTimeout(err):
		return "timeout"
	}
	return "broken"
}

// IsTimeout reports whether a target took too long, be it to connect or to answer.
func IsTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
}

// progress notes how far an attempt has come.
type progress struct{ asked, connected bool }

func (p *progress) follow(ctx context.Context, idle *idle) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		// net/http asks again where a connection from before has died and the request may be repeated.
		GetConn: func(string) { p.asked, p.connected = true, false },
		GotConn: func(got httptrace.GotConnInfo) {
			p.connected = true
			idle.sendsOver(got.Conn)
		},
	})
}

// fate is what became of a request that got no answer.
type fate int

const (
	unsent fate = iota // no connection could be made
	sent               // the target may have got something of it
	unfit              // net/http refuses to send it, and would for every target alike
)

func (p *progress) fate() fate {
	switch {
	case p.connected:
		return sent
	case p.asked:
		return unsent
	}
	return unfit
}

var errUnfit = errors.New("the request cannot be sent")

func (p *progress) explain(err error) error {
	switch p.fate() {
	case unsent:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case unfit:
		return fmt.Errorf("%w: %w", errUnfit, err)
	}
	return err
}
