package tlsbridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// Why a certificate was not revoked, retried or found.
var (
	ErrNoCertificate = errors.New("no certificate is stored for it")
	ErrFile          = errors.New("its certificate is in files of your own")
	ErrNotAllowed    = errNotAllowed
	ErrNoDNS         = errors.New("a CA wants a wildcard name proved by DNS-01, which is not set up")
	ErrOff           = errors.New("issuing is switched off: acme.issuer is off")
	ErrUnderWay      = errors.New("it is being obtained already, or too many others are")
	ErrLater         = errors.New("nothing is ordered for now") // is what errors are that name a time
)

// Revoke has the CA revoke the certificate of a name, which is signed for with the certificate's own key, so that an imported
// one can be revoked too. Then it is taken out of storage and memory, under every name that it is filed under. A
// certificate of the local CA is only taken out. It returns those names.
func (c *Certificates) Revoke(ctx context.Context, name string, reason int) ([]string, error) {
	list := c.List()
	i := slices.IndexFunc(list, func(s Stored) bool { return s.Name == name })
	switch {
	case i < 0:
		return nil, ErrNoCertificate
	case list[i].Source == SourceFile:
		return nil, ErrFile
	}
	revoked := list[i]
	if c.options.Issuer != IssuerLocal && revoked.Source != SourceLocal {
		if err := c.revokeAtCA(ctx, revoked, reason); err != nil {
			return nil, err
		}
	}
	var names []string
	var problems []error
	for _, stored := range list {
		if stored.Source != SourceFile && stored.Serial == revoked.Serial && stored.Issuer == revoked.Issuer {
			names = append(names, stored.Name)
			problems = append(problems, c.discard(ctx, stored.Name))
		}
	}
	return names, errors.Join(problems...)
}

func (c *Certificates) revokeAtCA(ctx context.Context, stored Stored, reason int) error {
	chain, err := readChain(stored.Files[0])
	if err != nil {
		return err
	}
	text, err := os.ReadFile(stored.Files[1])
	if err != nil {
		return err
	}
	key, err := certmagic.PEMDecodePrivateKey(text)
	if err != nil {
		return err
	}
	transport := newTransport(c.options.Root)
	defer transport.CloseIdleConnections()
	client := c.newClient(transport)
	err = client.RevokeCertificate(ctx, acme.Account{}, chain[0], key, reason)
	var problem acme.Problem
	if errors.As(err, &problem) && problem.Type == acme.ProblemTypeAlreadyRevoked {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the CA did not revoke it: %w", err)
	}
	return nil
}

// newTransport returns the way to a CA whose https has these roots; nil means the system's.
func newTransport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots},
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
	}
}

// newClient returns a client of the CA for what certmagic does not offer.
func (c *Certificates) newClient(transport http.RoundTripper) *acme.Client {
	directory := c.options.Directory
	if directory == "" {
		directory = certmagic.LetsEncryptProductionCA
	}
	return &acme.Client{Directory: directory, UserAgent: "cutover", HTTPClient: &http.Client{Transport: transport, Timeout: time.Minute}}
}

// Obtain forgets that a name failed, and asks for its certificate now: also where one is stored that is due. It waits for the
// outcome, and returns why there is none.
func (c *Certificates) Obtain(ctx context.Context, name string) error {
	if err := c.back.forget(ctx, name); err != nil {
		return err
	}
	switch {
	case c.options.Issuer == IssuerOff:
		return ErrOff
	case !c.allowed(name):
		return c.whyNotAllowed(name)
	}
	running, begun := c.begin(name)
	if !begun {
		return ErrUnderWay
	}
	defer c.done(name)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(running, cancel)() // the process ends
	if c.filed(name) {
		return c.renew(ctx, name)
	}
	return c.obtain(ctx, name)
}
