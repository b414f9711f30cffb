package main

import (
	"context"
	"errors"
	"log/slog"

	"cutover/tlsbridge"
)

// dnsProver returns how names are proved by the DNS; nil if they are not.
func dnsProver(c DNSConfig, log *slog.Logger) (tlsbridge.DNSProver, error) {
	switch {
	case c.Command != "" && c.Server != "":
		return nil, withHint(errors.New("acme.dns.server and acme.dns.command cannot both prove names"), "remove one of them from [acme.dns]")
	case c.Command != "":
		return &tlsbridge.DNSHook{Socket: c.Socket, Time: c.Timeout, Resolvers: c.Resolvers, Log: log}, nil
	case c.Server == "":
		return nil, nil
	}
	return dnsUpdate(c)
}

// checkHook says what would keep the hook from being run, while there is time, and returns when ctx has ended.
func (d *daemon) checkHook(ctx context.Context) error {
	if hook, ok := d.prover.(*tlsbridge.DNSHook); ok {
		if err := hook.Check(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("no certificate will be issued or renewed; stored ones are served", slog.String("setting", "acme.dns.command"), slog.Any("error", err))
		}
	}
	<-ctx.Done()
	return nil
}
