package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cutover/scripts/e2e/restarts/target"
)

// loadFor points a load at a server; plain and secure are addresses.
func loadFor(plain, secure string, roots *x509.CertPool) *Load {
	return New(Options{
		Plain: plain, Secure: secure, Host: "example.com", Roots: roots, Record: NewRecorder(),
		Life: 400 * time.Millisecond, Bulk: 300_000, Patience: 20 * time.Second, Think: 300 * time.Millisecond, Slow: 200 * time.Millisecond,
	})
}

// serve runs a handler on http and on https with HTTP/2, and returns a load for both.
func serve(t *testing.T, handler http.Handler) *Load {
	t.Helper()
	plain := httptest.NewServer(handler)
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	return loadFor(plain.Listener.Addr().String(), secure.Listener.Addr().String(), roots)
}

// run lets one kind of client ask until enough says so, and returns what it met.
func run(t *testing.T, l *Load, kind string, enough func(Report) bool) Report {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Kinds()[kind](ctx, l)
	}()
	deadline, tick := time.After(20*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for !enough(l.Record.Report()) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("%s has met no more than %+v", kind, l.Record.Report().Reasons)
			cancel()
		case <-ended:
			return l.Record.Report()
		}
	}
	cancel()
	<-ended
	return l.Record.Report()
}

// asked is true when so many requests were counted.
func asked(kind string, least int) func(Report) bool {
	return func(r Report) bool { return r.Kinds[kind] != nil && r.Kinds[kind].Requests >= least }
}

// expectFailure wants a failure whose kind and reason contain want.
func expectFailure(t *testing.T, l *Load, kind, want string) {
	t.Helper()
	found := func(r Report) bool {
		for reason := range r.Reasons {
			if strings.Contains(reason, want) {
				return true
			}
		}
		return false
	}
	if r := run(t, l, kind, found); !found(r) {
		t.Errorf("%s has not noticed: %v", kind, r.Reasons)
	}
}

// accept calls work with each connection that comes to an address, one after the other in goroutines of its own.
func accept(t *testing.T, config *tls.Config, work func(net.Conn)) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if config != nil {
				conn = tls.Server(conn, config)
			}
			go func() { // ends with the connection, which its client closes
				defer func() { _ = conn.Close() }()
				work(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// healthy is the service of the measurement.
func healthy() http.Handler { return target.Handler("v1") }
