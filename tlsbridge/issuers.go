package tlsbridge

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"

	"github.com/caddyserver/certmagic"
)

// gate stands before every issuer: it holds names back that are no longer allowed or that failed lately, and notes how
// it went. It sits where orders are made, not at the handshake's gate, so that a stored certificate is always served.
type gate struct {
	certificates *Certificates
	failFast     bool // no second attempt: somebody waits in a handshake
}

func (g *gate) issue(ctx context.Context, csr *x509.CertificateRequest, issue func() (*certmagic.IssuedCertificate, error)) (*certmagic.IssuedCertificate, error) {
	c := g.certificates
	name := nameOf(csr)
	if !c.options.Allowed(name) {
		return nil, certmagic.ErrNoRetry{Err: errNotAllowed}
	}
	if wrong := c.profile.Load(); wrong != nil {
		return nil, certmagic.ErrNoRetry{Err: wrong}
	}
	if g.failFast {
		if last, waits := c.back.holds(name); waits {
			return nil, certmagic.ErrNoRetry{Err: errors.New("waiting after a failure: " + last.Error)}
		}
	}
	issued, err := issue()
	if err == nil {
		c.kept.add(name)
		c.event("issued", name, nil)
		if err := c.back.forget(ctx, name); err != nil {
			c.options.Log.Warn("a failed attempt from before is still kept", slog.String("name", name), slog.Any("error", err))
		}
		return issued, nil
	}
	c.event("failed", name, err)
	if !g.failFast {
		return nil, err
	}
	c.back.failed(ctx, name, err)
	if !errors.As(err, new(certmagic.ErrNoRetry)) {
		err = certmagic.ErrNoRetry{Err: err}
	}
	return nil, err
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
	*certmagic.ACMEIssuer
	gate *gate
}

func (i acmeIssuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	return i.gate.issue(ctx, csr, func() (*certmagic.IssuedCertificate, error) {
		old := i.gate.certificates.replaced(nameOf(csr))
		if old == nil {
			return i.ACMEIssuer.Issue(ctx, csr)
		}
		issued, err := i.ACMEIssuer.Issue(replacing{ctx, old}, csr)
		if refusesReplacement(err) {
			return i.ACMEIssuer.Issue(ctx, csr)
		}
		return issued, err
	})
}

// localIssuer is the local CA behind the gate.
type localIssuer struct {
	ca   *localCA
	gate *gate
}

const localIssuerKey = "local"

func (i localIssuer) IssuerKey() string { return localIssuerKey }

func (i localIssuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	return i.gate.issue(ctx, csr, func() (*certmagic.IssuedCertificate, error) { return i.ca.sign(csr) })
}

// noIssuer only says where stored certificates are filed.
type noIssuer struct{ key string }

func (i noIssuer) IssuerKey() string { return i.key }

func (i noIssuer) Issue(context.Context, *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	return nil, certmagic.ErrNoRetry{Err: errors.New("issuing is switched off: acme.issuer is off")}
}
