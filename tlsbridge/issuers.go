package tlsbridge

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"

	"github.com/caddyserver/certmagic"
)

// gate stands before the issuer of new certificates: it holds back names that are no longer allowed, that failed lately or for
// which the budget has no room, and notes how it went. It sits where orders are made, not at the handshake's gate, so that a
// stored certificate is always served. Its errors keep certmagic from trying again: somebody may wait in a handshake.
type gate struct{ certificates *Certificates }

func (g *gate) issue(ctx context.Context, csr *x509.CertificateRequest, issue func(context.Context) (*certmagic.IssuedCertificate, error)) (*certmagic.IssuedCertificate, error) {
	c, name := g.certificates, nameOf(csr)
	spare, _ := ctx.Value(spareKey{}).(bool)
	if err := c.beginOrder(ctx, name, spare); err != nil {
		return nil, certmagic.ErrNoRetry{Err: err}
	}
	issued, err := issue(context.WithValue(ctx, paymentKey{}, &payment{name: name, spare: spare}))
	if err == nil {
		c.outage.answered()
		c.kinds.succeed(name, kindOf(ctx))
		return issued, nil // it is had once it is stored: see obtained
	}
	c.notOrdered(ctx, name, err)
	if !errors.As(err, new(certmagic.ErrNoRetry)) {
		err = certmagic.ErrNoRetry{Err: err}
	}
	return nil, err
}

// beginOrder says why nothing may be ordered for a name now. Else the order is paid for, and begun; what replaces a stored
// certificate costs nothing. certmagic holds the name's lock meanwhile, so no other process orders for it.
func (c *Certificates) beginOrder(ctx context.Context, name string, spare bool) error {
	if !c.allowed(name) {
		return c.whyNotAllowed(name)
	}
	if wrong := c.profile.Load(); wrong != nil {
		return wrong
	}
	if last, waits := c.back.meets(ctx, name); waits {
		return errors.New("waiting after a failure: " + last.Error)
	}
	if err := c.payForOrder(ctx, name, spare); err != nil {
		return err
	}
	c.back.begin(ctx, name)
	return nil
}

func (c *Certificates) payForOrder(ctx context.Context, name string, spare bool) error {
	if c.kept.has(name) || c.filed(name) {
		return c.enterRenewal(ctx, name)
	}
	if err := c.looksReady(ctx, name); err != nil {
		c.notOrdered(ctx, name, &preflightError{err})
		return err
	}
	if err := c.outage.enter(); err != nil {
		return err
	}
	if err := c.orders.learn(ctx); err != nil {
		c.notOrdered(ctx, name, err)
		return err
	}
	err := c.budget.spend(ctx, name, spare)
	if err != nil {
		c.event("budget", name, err)
	}
	return err
}

// looksReady is the preflight. A name that is proved by the DNS need not lead here.
func (c *Certificates) looksReady(ctx context.Context, name string) error {
	if c.options.DNS != nil {
		return nil
	}
	return c.options.Preflight.check(ctx, name)
}

// notOrdered notes why a name has no certificate.
func (c *Certificates) notOrdered(ctx context.Context, name string, cause error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // we end, which is nobody's failure
	}
	c.event("failed", name, cause)
	if problem, ok := rateLimit(cause); ok {
		c.outage.answered()
		c.back.withdraw(ctx, name)
		c.budget.limited(ctx, name, problem)
		return
	}
	if errors.As(cause, new(*preflightError)) {
		c.back.failed(ctx, name, cause)
		return
	}
	if isOutage(cause) {
		c.outage.failed(name, cause)
		c.back.failedByCA(ctx, name, cause)
		return
	}
	c.outage.answered()
	c.kinds.fail(name, kindOf(ctx))
	c.back.failed(ctx, name, cause)
}

// succeeded notes that a name has its certificate.
func (c *Certificates) succeeded(ctx context.Context, name string) {
	c.event("issued", name, nil)
	if err := c.back.forget(ctx, name); err != nil {
		c.options.Log.Warn("a failed attempt from before is still kept", slog.String("name", name), slog.Any("error", err))
	}
}

func nameOf(csr *x509.CertificateRequest) string {
	if len(csr.DNSNames) > 0 {
		return csr.DNSNames[0]
	}
	return csr.Subject.CommonName
}

// acmeIssuer is ACME behind the gate. Embedding keeps what certmagic finds on the issuer beside Issue: revocation,
// checks, renewal information.
type acmeIssuer struct {
	*certmagic.ACMEIssuer                         // the first of kinds
	kinds                 []*certmagic.ACMEIssuer // one for each kind of challenge
	gate                  *gate
}

func (i acmeIssuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	kind := i.gate.certificates.kindFor(nameOf(csr))
	issue := func(ctx context.Context) (*certmagic.IssuedCertificate, error) { return i.kinds[kind].Issue(ctx, csr) }
	return i.gate.issue(withKind(ctx, kind), csr, issue)
}

// PreCheck ends at once, and holds the name back, where certmagic would try again for a month. Each kind is told the account's
// address so.
func (i acmeIssuer) PreCheck(ctx context.Context, names []string, interactive bool) error {
	var err error
	for _, kind := range i.kinds {
		if err = kind.PreCheck(ctx, names, interactive); err != nil {
			break
		}
	}
	if err == nil {
		return nil
	}
	for _, name := range names {
		i.gate.certificates.back.failed(ctx, name, err)
	}
	return certmagic.ErrNoRetry{Err: err}
}

// gatedIssuer is any other issuer behind the gate.
type gatedIssuer struct {
	certmagic.Issuer
	gate *gate
}

func (i gatedIssuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	return i.gate.issue(ctx, csr, func(ctx context.Context) (*certmagic.IssuedCertificate, error) { return i.Issuer.Issue(ctx, csr) })
}

// localIssuer is the local CA.
type localIssuer struct{ ca *localCA }

const localIssuerKey = "local"

func (i localIssuer) IssuerKey() string { return localIssuerKey }

func (i localIssuer) Issue(_ context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	return i.ca.sign(csr)
}

// noIssuer only says where stored certificates are filed.
type noIssuer struct{ key string }

func (i noIssuer) IssuerKey() string { return i.key }

func (i noIssuer) Issue(context.Context, *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	return nil, certmagic.ErrNoRetry{Err: ErrOff}
}
