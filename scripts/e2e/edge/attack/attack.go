// Package attack does to a server what strangers on the internet do: it is for measuring a Cutover of one's own, in a
// network namespace of its own, and connects to loopback addresses only. Each attack has a steady pace, so that what is
// measured is the server and not how fast this machine can write.
package attack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Options says whom to attack, and how hard.
type Options struct {
	Plain, Secure string         // addresses of http and https, on the loopback
	Host          string         // that is served there, and has a certificate
	Roots         *x509.CertPool // of that certificate

	Connections int           // at once
	PerSecond   int           // new connections, or frames where the attack is made of frames
	Total       int           // handshakes or requests, where the attack is made of them; 0 goes on until its context ends
	Bound       time.Duration // a connection that lives longer was cut late
	Enough      int           // a connection of a flood that has sent so much is to be cut
	Wait        time.Duration // at the end, for connections that are to be cut; however slow the machine is
	Names       []string      // some handshakes ask for these
	From        netip.Addr    // the attackers' addresses are this one's /15; this machine must take them for its own
}

// Attack is one way to do harm.
type Attack struct {
	Name string
	Says string // what it does, for the reader of a table
	run  func(context.Context, *attacker)
}

// All lists the attacks.
func All() []Attack {
	return []Attack{
		{"handshakes", "ClientHellos with random names; one in a hundred has a name that the rules know and the CA refuses", handshakes},
		{"slow-heads", "a quarter each: heads that never end, in clear text and in TLS, ClientHellos that never end, silence", slowHeads},
		{"held-heads", "60 KB of a head at once, and never its end: HTTP/1.1 in clear text and in TLS, HTTP/2", heldHeads},
		{"slow-bodies", "bodies of one byte a second: HTTP/1.1 in clear text and in TLS, HTTP/2", slowBodies},
		{"head-bombs", "heads of 1 MB: many lines, one line, HTTP/2 in CONTINUATION frames, HPACK references that grow to 64 MB", headBombs},
		{"h2-rapid-reset", "requests that are cancelled at once (CVE-2023-44487)", flood(rapidReset, false)},
		{"h2-made-you-reset", "requests that the server itself must reset (CVE-2025-8671)", flood(madeYouReset, false)},
		{"h2-continuation", "a head of CONTINUATION frames without end, half of them empty (CVE-2023-45288)", flood(continuation, false)},
		{"h2-settings", "SETTINGS frames, half of the clients deaf to the answers (CVE-2019-9515)", flood(settings, true)},
		{"h2-ping", "PING frames, half of the clients deaf to the answers (CVE-2019-9512)", flood(ping, true)},
		{"h2-empty-data", "empty DATA frames (CVE-2019-9518)", flood(emptyData, false)},
	}
}

// Find returns an attack by its name.
func Find(name string) (Attack, error) {
	all := All()
	i := slices.IndexFunc(all, func(a Attack) bool { return a.Name == name })
	if i < 0 {
		return Attack{}, fmt.Errorf("there is no attack %q", name)
	}
	return all[i], nil
}

// errNotHere says that an attack was asked for on something that may be somebody else's.
var errNotHere = errors.New("attacks are for loopback addresses only")

// Run attacks until ctx ends, or Total is reached, and tells how it went.
func (a Attack) Run(ctx context.Context, o Options) (Result, error) {
	for _, address := range []string{o.Plain, o.Secure} {
		if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().IsLoopback() {
			return Result{}, fmt.Errorf("%s: %w", address, errNotHere)
		}
	}
	attacker := &attacker{Options: o, tally: newTally(o.Bound), pacer: newPacer(o.PerSecond), sessions: tls.NewLRUClientSessionCache(64)}
	a.run(ctx, attacker)
	return attacker.tally.report(), nil
}

// attacker is an attack under way.
type attacker struct {
	Options
	tally    *tally
	pacer    *pacer
	sessions tls.ClientSessionCache // spares this machine's processors, which the server shares
}

const patience = 10 * time.Second

// address is where a connection comes from: half of all from one address, and the others from an address each.
func (a *attacker) address() net.IP {
	ip := a.From.As4()
	if rand.IntN(2) == 0 {
		return net.IPv4(ip[0], ip[1], 9, 9)
	}
	return net.IPv4(ip[0], ip[1]+byte(rand.IntN(2)), byte(10+rand.IntN(240)), byte(1+rand.IntN(254)))
}

// dial connects. The tally knows the connection until its live ends.
func (a *attacker) dial(ctx context.Context, to string) (*victim, error) {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: a.address()}, KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", to)
	if err != nil {
		if ctx.Err() == nil {
			a.tally.refused()
		}
		return nil, err
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // leaves nothing behind: ports would run out
	return &victim{Conn: conn, life: a.tally.begin()}, nil
}

// dialTLS connects and shakes hands. A server that ends the connection meanwhile has cut it.
func (a *attacker) dialTLS(ctx context.Context, protocol string) (*victim, error) {
	v, err := a.dial(ctx, a.Secure)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(v.Conn, &tls.Config{ServerName: a.Host, RootCAs: a.Roots, ClientSessionCache: a.sessions, NextProtos: []string{protocol}})
	_ = secure.SetDeadline(time.Now().Add(patience))
	if err := secure.HandshakeContext(ctx); err != nil {
		v.over(err)
		return nil, err
	}
	_ = secure.SetDeadline(time.Time{})
	v.Conn = secure
	return v, nil
}

// victim is a connection to the server.
type victim struct {
	net.Conn
	*life
}

// over ends the connection; err says who did.
func (v *victim) over(err error) {
	_ = v.Close()
	if isTimeout(err) || errors.Is(err, context.Canceled) {
		v.life.left()
		return
	}
	v.life.cut()
}

// isTimeout: something has not come in time; also a context's deadline.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// finish ends a connection that the server is to end: if it has not by now, it is waited for. hear reads until err.
func (a *attacker) finish(v *victim, err error, hear func() error) {
	if isTimeout(err) {
		_ = v.SetReadDeadline(time.Now().Add(a.Wait))
		if err = hear(); isTimeout(err) {
			a.tally.spared()
		}
	}
	v.over(err)
}
