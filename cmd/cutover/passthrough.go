package main

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"cutover/rules"
	"cutover/systemd"
	"cutover/tlsbridge"
)

// route says which connections are passed on as they are: those of hosts whose TLS somebody else ends, and what a CA asks
// v1's own ACME client.
func (d *daemon) route(serverName string, protocols []string, client netip.Addr) (tlsbridge.Destination, bool) {
	host, err := rules.NormalizeHost(serverName)
	if err != nil {
		return tlsbridge.Destination{}, false
	}
	if row, _ := d.store.Load().Host(host); row.TLS == rules.TLSPassthrough {
		return d.targetFor(host, client), true // also where there is none: our own certificate must not take its place
	}
	if tlsbridge.IsChallenge(protocols) {
		return d.challengeOfV1(host, client)
	}
	return tlsbridge.Destination{}, false
}

// targetFor returns where a visitor's connection goes whose TLS is not ended here: to the upstream that the rules choose for
// the host and the visitor's address. The zero Destination stands for nowhere.
func (d *daemon) targetFor(host string, client netip.Addr) tlsbridge.Destination {
	decision := d.handler.Decide(&http.Request{
		Method: http.MethodGet, Host: host, URL: &url.URL{Path: "/"}, RemoteAddr: netip.AddrPortFrom(client, 0).String(),
	})
	if decision.Action != rules.Forward {
		return tlsbridge.Destination{}
	}
	to, _ := d.tlsTarget(decision.Upstream)
	return to
}

// challengeOfV1 leads a CA to v1 where it does not ask for a challenge of ours. Whether it is a CA nobody can tell: v1 may speak
// HTTP with whoever it is, past every guard. So it is not done for a host that has one.
func (d *daemon) challengeOfV1(host string, client netip.Addr) (tlsbridge.Destination, bool) {
	view := d.store.Load()
	if !view.Knows(host) || view.Guarded(host) || d.certificates.HoldsTLSChallenge(host) {
		return tlsbridge.Destination{}, false
	}
	first := view.FirstVersion(&rules.Request{Method: http.MethodGet, Host: host, Path: "/", ClientIP: client})
	if to, ok := d.tlsTarget(first); ok {
		return to, true
	}
	return tlsbridge.Destination{Address: d.config.V1TLS}, d.config.V1TLS != ""
}

// tlsTarget returns an upstream's first target that is ready and speaks TLS.
func (d *daemon) tlsTarget(upstream string) (tlsbridge.Destination, bool) {
	up, ok := d.store.Load().Upstream(upstream)
	if !ok {
		return tlsbridge.Destination{}, false
	}
	var targets []rules.Target
	for _, row := range up.Targets {
		targets = append(targets, d.finder.Targets(row)...)
	}
	i := slices.IndexFunc(targets, func(t rules.Target) bool { return t.State == rules.StateReady && tlsAddress(t.URL) != "" })
	if i < 0 {
		return tlsbridge.Destination{}, false
	}
	return tlsbridge.Destination{Address: tlsAddress(targets[i].URL), ProxyHeader: string(up.ProxyProtocol)}, true
}

// tlsAddress returns host and port of an https URL; empty for any other.
func tlsAddress(target string) string {
	address, err := rules.ParseAddress(target)
	if err != nil || !address.TLS || address.Network != "tcp" {
		return ""
	}
	return address.Dial
}

// passOn gives a raw stream to the frontend of the moment, which counts it as a tunnel and drains it as one.
func (d *daemon) passOn(s tlsbridge.Stream) {
	d.front.Load().Tunnel(s.Conn, func() { d.raw.Carry(s) })
}

// behindProxies returns what takes the connections of a socket: those of load balancers with their clients' addresses.
func (d *daemon) behindProxies(handle func(net.Conn)) func(net.Conn) {
	if d.balancers == nil {
		return handle
	}
	return d.balancers.Before(handle)
}

func (d *daemon) openPassthrough() {
	d.raw = &tlsbridge.Passthrough{
		Idle: d.limits.PassthroughIdle, Stall: d.limits.Stall,
		Log: d.log, OnResult: func(result string) { d.metrics.Event("passthrough", result) },
	}
	c := d.config.ProxyProtocol
	if len(c.Trusted) == 0 || len(d.sockets[systemd.HTTP])+len(d.sockets[systemd.HTTPS]) == 0 {
		return
	}
	d.balancers = &tlsbridge.ProxyProtocol{
		Trusted: c.Trusted, Optional: c.WithoutHeader == withoutHeaderAccept, Log: d.log,
		OnResult: func(result string) { d.metrics.Event("proxy_header", result) },
	}
}
