package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"cutover/scripts/e2e/pebble"
	"cutover/tlsbridge"
)

// edge is tlsbridge on two sockets, as the daemon wires it.
type edge struct {
	certificates *tlsbridge.Certificates
	web, secure  net.Listener
	address      string // where visitors find it
	handler      http.Handler
	route        tlsbridge.Route
	raw          tlsbridge.Passthrough
	balancers    *tlsbridge.ProxyProtocol // nil for none
	stop         func()

	mu      sync.Mutex
	allowed []string
}

func (e *edge) allows(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.allowed, name)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func portOf(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }

// sockets are the two that systemd would hold: they outlive the process.
type sockets struct{ web, secure net.Listener }

func newSockets(t *testing.T) sockets { return sockets{listen(t), listen(t)} }

func startPebble(t *testing.T, s sockets, change func(*pebble.Options)) *pebble.Server {
	t.Helper()
	o := pebble.Options{HTTPPort: portOf(s.web), TLSPort: portOf(s.secure)}
	if testing.Verbose() && os.Getenv("PEBBLE_LOG") != "" {
		o.Log = os.Stderr
	}
	if change != nil {
		change(&o)
	}
	server, err := pebble.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server
}

// startEdge runs tlsbridge on the sockets with its state in dir. It ends with the test, or by stop.
func startEdge(t *testing.T, s sockets, ca *pebble.Server, dir string, change func(*tlsbridge.CertificateOptions)) *edge {
	t.Helper()
	e := newEdge(t, s, ca, dir, change)
	e.run(t)
	return e
}

func newEdge(t *testing.T, s sockets, ca *pebble.Server, dir string, change func(*tlsbridge.CertificateOptions)) *edge {
	t.Helper()
	e := &edge{web: s.web, secure: s.secure, address: s.secure.Addr().String(), allowed: []string{"shop.test", "other.test", "account.test", "renewed.test"}}
	e.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello\n") })
	o := tlsbridge.CertificateOptions{
		Dir: dir, Directory: ca.Directory(), Root: ca.Roots(), HTTPPort: portOf(s.web), TLSPort: portOf(s.secure), ListenHost: "127.0.0.1",
		Allowed: e.allows,
	}
	if testing.Verbose() {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	if change != nil {
		change(&o)
	}
	var err error
	if e.certificates, err = tlsbridge.NewCertificates(o); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *edge) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.runUntil(ctx) }()
	e.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		_ = e.web.(*net.TCPListener).SetDeadline(time.Time{})
		_ = e.secure.(*net.TCPListener).SetDeadline(time.Time{})
	})
	t.Cleanup(e.stop)
}

// runUntil serves on the sockets until ctx ends.
func (e *edge) runUntil(ctx context.Context) error {
	var passed sync.WaitGroup
	defer passed.Wait()
	plain := &connServer{handler: e.certificates.HTTPChallenge(e.handler)}
	handshaker := &tlsbridge.Handshaker{
		Config: e.certificates.TLSConfig(), Sinks: map[string]tlsbridge.Sink{"": plain, "http/1.1": plain},
		Route: e.route, Pass: func(s tlsbridge.Stream) { passed.Go(func() { e.raw.Carry(s) }) },
	}
	before := func(handle func(net.Conn)) func(net.Conn) { return handle }
	if e.balancers != nil {
		before = e.balancers.Before
	}
	web := &tlsbridge.Acceptor{Listener: e.web, Handle: before(plain.ServeConn)}
	secure := &tlsbridge.Acceptor{Listener: e.secure, Handle: before(handshaker.Handle)}
	e.certificates.Warm(ctx)
	group, running := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{web.Run, secure.Run, e.certificates.Run} {
		group.Go(func() error { return run(running) })
	}
	return errors.Join(group.Wait(), handshaker.Wait(context.Background()))
}

// connServer is a sink that serves one connection in a goroutine.
type connServer struct{ handler http.Handler }

func (s *connServer) ServeConn(c net.Conn) {
	once := &oneListener{conn: make(chan net.Conn, 1), addr: c.LocalAddr()}
	once.conn <- c
	close(once.conn)
	server := &http.Server{Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Second}
	go func() { _ = server.Serve(once) }() // ends when the one connection was taken
}

type oneListener struct {
	conn chan net.Conn
	addr net.Addr
}

func (l *oneListener) Accept() (net.Conn, error) {
	if c, ok := <-l.conn; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l *oneListener) Close() error   { return nil }
func (l *oneListener) Addr() net.Addr { return l.addr }

// shake does a handshake and returns its state.
func (e *edge) shake(name string, change func(*tls.Config)) (tls.ConnectionState, error) {
	config := &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	if change != nil {
		change(config)
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: config}
	ctx, cancel := context.WithTimeout(context.Background(), 70*time.Second)
	defer cancel()
	c, err := dialer.DialContext(ctx, "tcp", e.address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+name+"\r\nConnection: close\r\n\r\n"); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = io.ReadAll(c)
	return c.(*tls.Conn).ConnectionState(), err
}

func mustShake(t *testing.T, e *edge, name string, change func(*tls.Config)) tls.ConnectionState {
	t.Helper()
	state, err := e.shake(name, change)
	if err != nil {
		t.Fatalf("handshake for %s: %v", name, err)
	}
	return state
}

func leaf(state tls.ConnectionState) *x509.Certificate { return state.PeerCertificates[0] }
