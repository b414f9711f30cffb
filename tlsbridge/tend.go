package tlsbridge

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"golang.org/x/sync/errgroup"
)

const (
	shortLife = 10 * 24 * time.Hour // Let's Encrypt advises to renew what lives shorter at half of its life
	halfLife  = 0.5
	// renewalsAtOnce keeps a CA that does not answer from holding up all names behind one.
	renewalsAtOnce = 5
	lookEvery      = time.Minute // between looks for what another process has stored
)

// tend does what certmagic does not, until ctx ends: it renews imported certificates that hold for several names, each
// name by itself, and discards wildcard certificates that have ended, which would hide the names' own.
func (c *Certificates) tend(ctx context.Context) {
	every := c.options.RenewEvery
	if every <= 0 {
		every = certmagic.DefaultRenewCheckInterval
	}
	renew := time.NewTicker(every)
	defer renew.Stop()
	for {
		select {
		case <-renew.C:
			c.tendAll(ctx)
		case <-ctx.Done():
			return
		}
	}
}

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

func (c *Certificates) tendAll(ctx context.Context) {
	now := time.Now()
	var renewals errgroup.Group
	renewals.SetLimit(renewalsAtOnce)
	defer func() { _ = renewals.Wait() }() // none of them returns an error
	for _, stored := range c.List() {
		switch {
		case ctx.Err() != nil:
			return
		case stored.Source == SourceFile || stored.NotAfter.IsZero():
		case strings.HasPrefix(stored.Name, "*."):
			if now.After(stored.NotAfter) {
				c.end(ctx, &stored)
			}
		case c.tendsItself(&stored) || !due(&stored, now) || !c.options.Allowed(stored.Name):
		default:
			renewals.Go(func() error { c.renewAlone(ctx, stored.Name); return nil })
		}
	}
}

// tendsItself reports whether certmagic renews a certificate: it does so by the first name that it holds for.
func (c *Certificates) tendsItself(stored *Stored) bool {
	return c.options.Issuer == IssuerOff || slices.Equal(stored.Names, []string{stored.Name})
}

// due reports whether a certificate is to be renewed.
func due(stored *Stored, now time.Time) bool {
	ratio := certmagic.DefaultRenewalWindowRatio
	life := stored.NotAfter.Sub(stored.NotBefore)
	if life < shortLife {
		ratio = halfLife
	}
	return now.After(stored.NotAfter.Add(-time.Duration(ratio * float64(life))))
}

// renewAlone renews a name, unless it must wait after a failure.
func (c *Certificates) renewAlone(ctx context.Context, name string) {
	if _, waits := c.back.holds(name); waits {
		return
	}
	if err := c.renew(ctx, name); err != nil && ctx.Err() == nil {
		c.options.Log.Debug("an imported certificate was not renewed", slog.String("name", name), slog.Any("error", err))
	}
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
	if certificate.Leaf != nil && certificate.Lifetime() < shortLife {
		return c.short, nil
	}
	return c.background, nil
}

// obtained is certmagic's OnEvent: it takes what was stored into memory, so that a wildcard certificate there does not hide it.
func (c *Certificates) obtained(ctx context.Context, event string, data map[string]any) error {
	if name, ok := data["identifier"].(string); ok && event == "cert_obtained" {
		c.warm(ctx, name)
	}
	return nil
}
