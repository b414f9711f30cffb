package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"cutover/scripts/e2e/restarts/wire"
)

// Options says whom to ask, and how.
type Options struct {
	Plain, Secure string         // addresses of http and https
	Host          string         // of every request, and the name in the certificate
	Roots         *x509.CertPool // of Secure's certificate
	Record        *Recorder

	Life     time.Duration // of a download, an upload, a WebSocket and a stream of events
	Bulk     int64         // bytes of a download or an upload
	Patience time.Duration // a client gives up after it; 0 means 60 s
	Think    time.Duration // the longest pause of a client on a kept connection; 0 means 5 s
	Slow     time.Duration // what slow handlers, slow writers and late speakers take; 0 means 3 s
}

// Kinds are the clients, by name.
func Kinds() map[string]func(context.Context, *Load) {
	return map[string]func(context.Context, *Load){
		"h1 new": newConnections, "h1 keep-alive": keptAlive, "h1 busy keep-alive": busy, "h1 slow handler": slowHandlers,
		"TLS full": fullHandshakes, "TLS resumed": resuming, "TLS h1 keep-alive": keptAliveTLS,
		"h2 one stream": oneStreams, "h2 16 streams": manyStreams,
		"POST 64 KiB": posts, "download": downloads, "upload": uploads, "TLS download": downloadsTLS, "TLS upload": uploadsTLS,
		"WebSocket": webSockets, "SSE": events, "Expect": expecting, "slow writer": slowWriters, "late speaker": lateSpeakers,
	}
}

// Load is clients at work on a server.
type Load struct {
	Options
	pattern *wire.Pattern
}

// New makes a load. Zero options get their defaults.
func New(o Options) *Load {
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Think == 0 {
		o.Think = 5 * time.Second
	}
	if o.Slow == 0 {
		o.Slow = 3 * time.Second
	}
	return &Load{Options: o, pattern: wire.NewPattern()}
}

// Run lets clients of all kinds ask until ctx ends; it returns when all that they had begun has ended, too.
func (l *Load) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, client := range Kinds() {
		all.Go(func() { client(ctx, l) })
	}
	all.Wait()
}

// dial connects; every read and write from then on has to be done within the client's patience.
func (l *Load) dial(address string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", address, l.Patience) //nolint:noctx // what was begun is not given up
	if err != nil {
		return nil, during("connect", 0, err)
	}
	return conn, l.renew(conn)
}

// renew gives a connection the whole of the patience again.
func (l *Load) renew(conn net.Conn) error { return conn.SetDeadline(time.Now().Add(l.Patience)) }

// dialTLS connects and shakes hands. sessions may be nil.
func (l *Load) dialTLS(sessions tls.ClientSessionCache, protocol string) (*tls.Conn, error) {
	raw, err := l.dial(l.Secure)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{ServerName: l.Host, RootCAs: l.Roots, ClientSessionCache: sessions, NextProtos: []string{protocol}})
	if err := conn.Handshake(); err != nil { //nolint:noctx // the deadline is the connection's
		_ = raw.Close()
		return nil, during("TLS handshake", 0, err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != protocol && (got != "" || protocol == "h2") { // HTTP/1.1 needs no name
		_ = raw.Close()
		return nil, wrong("TLS handshake: wrong protocol", 0, "the server chose %q", got)
	}
	return conn, nil
}

// many runs some clients of a kind at once, and waits for all.
func many(count int, client func(number int)) {
	var all sync.WaitGroup
	for i := range count {
		all.Go(func() { client(i) })
	}
	all.Wait()
}

// atOnce bounds the requests of one open loop that wait for answers.
const atOnce = 1000

// every asks at a steady pace, whether or not the answers keep up, until ctx ends.
func every(ctx context.Context, interval time.Duration, ask func(due time.Time)) {
	var all sync.WaitGroup
	defer all.Wait()
	room := make(chan struct{}, atOnce)
	for due := time.Now().Add(rand.N(interval)); wait(ctx, time.Until(due)); due = due.Add(interval) {
		room <- struct{}{}
		all.Go(func() {
			ask(due)
			<-room
		})
	}
}

// wait waits; false if ctx has ended.
func wait(ctx context.Context, long time.Duration) bool {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// pace waits in the midst of what is to be finished.
func pace(until time.Time) { wait(context.Background(), time.Until(until)) }

// body makes one that no other request has.
func (l *Load) body(size int) []byte {
	body := make([]byte, size)
	l.pattern.Fill(body, rand.Int64N(1<<40))
	return body
}
