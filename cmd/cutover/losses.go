package main

import (
	"context"
	"fmt"
	"time"

	"cutover/proxy/admin"
	"cutover/rules"
)

// lost lists what the rules have that a release with an older schema does not know.
func lost(ctx context.Context, client *admin.Client, schema int) ([]string, error) {
	if schema >= rules.Schema {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	guards, err := client.Guards(ctx, "")
	if err != nil {
		return unknownLoss(ctx, client, err)
	}
	hosts, err := client.Hosts(ctx, "")
	if err != nil {
		return nil, err
	}
	upstreams, err := client.Upstreams(ctx)
	if err != nil {
		return nil, err
	}
	return losses(schema, guards.Guards, hosts.Hosts, upstreams.Upstreams), nil
}

// unknownLoss is what is said where no daemon answers, or one that knows no guards itself, of which nothing can be lost.
func unknownLoss(ctx context.Context, client *admin.Client, cause error) ([]string, error) {
	if _, err := client.Status(ctx); err == nil {
		return nil, cause
	}
	return []string{"whether there are guards cannot be told, since no daemon answers"}, nil
}

// loss is what becomes of so many rows.
type loss struct {
	n    int
	what string
}

// losses says what a release with an older schema makes of rows of this one.
func losses(schema int, guards []rules.GuardRow, hosts []rules.Host, upstreams []rules.Upstream) (list []string) {
	var counts []loss
	if schema < 2 {
		counts = append(counts,
			loss{numberOf(guards, func(g rules.GuardRow) bool { return g.Enabled }), "guard: everybody gets in"},
			loss{numberOf(hosts, func(h rules.Host) bool { return h.TLS == rules.TLSPassthrough }), "host with tls passthrough: TLS ends here"},
			loss{numberOf(hosts, func(h rules.Host) bool { return h.Certificate != rules.CertificateAuto }), "host with a certificate other than auto: as auto"},
			loss{numberOf(upstreams, func(u rules.Upstream) bool { return u.ProxyProtocol != rules.ProxyProtocolOff }), "upstream with proxy_protocol: nothing is said first"},
		)
	}
	if schema < 3 {
		newer := 0
		for _, u := range upstreams {
			newer += numberOf(u.Targets, isOfSchema3)
		}
		counts = append(counts,
			loss{newer, "target on a socket, or with h2c: it gets no requests"},
			loss{numberOf(upstreams, func(u rules.Upstream) bool { return u.Check.Path != "" }), "upstream with check_path: nobody checks"},
		)
	}
	if schema < 4 {
		newer := 0
		for _, u := range upstreams {
			newer += numberOf(u.Targets, isOfSchema4)
		}
		counts = append(counts,
			loss{newer, "target of a kind that came later (FastCGI, HTTP/2 over TLS, programs, discovery): it gets no requests"},
			loss{numberOf(upstreams, func(u rules.Upstream) bool { return u.TargetsOf != "" }), "upstream with targets_of: it has no targets"},
			loss{numberOf(upstreams, isAnnounced), "upstream with proxy_protocol: its targets get requests without the header that they expect"},
			loss{numberOf(upstreams, func(u rules.Upstream) bool { return u.MaxInFlight > 0 }), "upstream with max_in_flight: there is no limit"},
			loss{numberOf(upstreams, isTLSOfSchema4), "upstream with tls_ca, tls_server_name, tls_pin or tls_certificate: its targets are checked as the system does"},
			loss{numberOf(upstreams, func(u rules.Upstream) bool { return !u.Repair.IsNothing() }), "upstream with changes to paths, cookies or headers: they pass as they are"},
		)
	}
	for _, c := range counts {
		if c.n > 0 {
			list = append(list, fmt.Sprintf("%d × %s", c.n, c.what))
		}
	}
	return list
}

func isOfSchema3(t rules.Target) bool {
	address, err := rules.ParseAddress(t.URL)
	return err == nil && (address.Network == "unix" || address.Protocol == rules.ProtocolH2C)
}

// isOfSchema4 reports whether schema 3 has no such target.
func isOfSchema4(t rules.Target) bool {
	source, err := rules.ParseTarget(t.URL)
	return err == nil && (source.Kind != rules.SourceAddress || source.Address.Protocol == rules.ProtocolH2 || source.Address.Protocol == rules.ProtocolFCGI)
}

func isAnnounced(u rules.Upstream) bool {
	return u.ProxyProtocol != "" && u.ProxyProtocol != rules.ProxyProtocolOff
}

func isTLSOfSchema4(u rules.Upstream) bool { return u.TargetTLS != rules.TargetTLS{} }

func numberOf[T any](list []T, is func(T) bool) (n int) {
	for _, each := range list {
		if is(each) {
			n++
		}
	}
	return n
}
