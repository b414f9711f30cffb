package tlsbridge

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	shortLife = 10 * 24 * time.Hour // Let's Encrypt advises to renew what lives shorter at half of its life
	halfLife  = 0.5
	lookEvery = time.Minute // between looks for what another process has stored
)

// watchStorage looks every minute for what another process has stored, until ctx ends.
func (c *Certificates) watchStorage(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			c.findNew()
		case <-ctx.Done():
			return
		}
	}
}

// tend does what certmagic does not: it has imported certificates that hold for several names renewed, each name by itself, and
// discards wildcard certificates that have ended and cannot be renewed, which would hide the names' own.
func (c *Certificates) tend(ctx context.Context) {
	if !c.options.Active() {
		return
	}
	now := time.Now()
	for _, stored := range c.List() {
		switch {
		case ctx.Err() != nil:
			return
		case stored.Source == SourceFile || stored.NotAfter.IsZero():
		case strings.HasPrefix(stored.Name, "*.") && !c.allowed(stored.Name):
			if now.After(stored.NotAfter) && c.options.Issuer != IssuerOff {
				c.end(ctx, &stored)
			}
		case c.tendsItself(&stored) || !due(stored.NotBefore, stored.NotAfter, now) || !c.allowed(stored.Name):
		default:
			c.late.found(stored.Name)
		}
	}
}

// tendsItself reports whether certmagic renews a certificate: it does so by the first name that it holds for.
func (c *Certificates) tendsItself(stored *Stored) bool {
	if c.options.Issuer == IssuerOff {
		return true
	}
	inMemory := slices.ContainsFunc(c.cache.AllMatchingCertificates(stored.Name), func(m certmagic.Certificate) bool { return slices.Equal(m.Names, stored.Names) })
	return inMemory && slices.Equal(stored.Names, []string{stored.Name})
}

// due reports whether a certificate is to be renewed.
func due(notBefore, notAfter, now time.Time) bool {
	ratio := certmagic.DefaultRenewalWindowRatio
	life := notAfter.Sub(notBefore)
	if life < shortLife {
		ratio = halfLife
	}
	return now.After(notAfter.Add(-time.Duration(ratio * float64(life))))
}

// end discards a wildcard certificate that has ended: nobody can be served it, and it would be found before the certificates
// of the names below it.
func (c *Certificates) end(ctx context.Context, stored *Stored) {
	c.options.Log.Warn("a wildcard certificate has ended and is discarded; each host that is asked for gets one of its own",
		slog.String("name", stored.Name), slog.Time("ended", stored.NotAfter))
	if err := c.discard(ctx, stored.Name); err != nil {
		c.options.Log.Error("a wildcard certificate that has ended is still there", slog.String("name", stored.Name), slog.Any("error", err))
	}
}

// configFor returns the configuration by which a certificate is renewed: those with a short life begin early.
func (c *Certificates) configFor(certificate certmagic.Certificate) (*certmagic.Config, error) {
	if certificate.Leaf == nil || len(certificate.Names) == 0 {
		return c.background, nil
	}
	with := c.renewers[c.kindFor(certificate.Names[0])]
	if certificate.Lifetime() < shortLife {
		return with.short, nil
	}
	return with.long, nil
}

// obtained is certmagic's OnEvent for handshakes, which comes once a certificate is stored: it takes it into memory, so that a
// wildcard certificate there does not hide it. What cannot be stored stays as begun, so it is not ordered for each visitor.
func (c *Certificates) obtained(ctx context.Context, event string, data map[string]any) error {
	if name, ok := data["identifier"].(string); ok && event == "cert_obtained" {
		c.warm(ctx, name)
		c.kept.add(name)
		c.succeeded(ctx, name)
	}
	return nil
}
