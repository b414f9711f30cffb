package main

import (
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
		return &tlsbridge.DNSHook{Command: c.Command, Time: c.Timeout, Resolvers: c.Resolvers, Log: log}, nil
	case c.Server == "":
		return nil, nil
	}
	return dnsUpdate(c)
}

// checkHook says what would keep the hook from being run, while there is time.
func checkHook(prover tlsbridge.DNSProver, log *slog.Logger) {
	hook, ok := prover.(*tlsbridge.DNSHook)
	if !ok {
		return
	}
	if err := hook.Check(); err != nil {
		log.Error("no certificate will be issued or renewed; stored ones are served", slog.String("setting", "acme.dns.command"), slog.Any("error", err))
	}
}
