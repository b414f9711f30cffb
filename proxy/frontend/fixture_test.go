package frontend

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a machine with two ports whose connections go to one server, and after succeed to another, as with a restart.
type site struct {
	plain, secure net.Listener
	config        *tls.Config
	roots         *x509.CertPool
	current       atomic.Pointer[instance]
	accepting     sync.WaitGroup
}

// instance is a server and how many connections are on their way to it.
type instance struct {
	*Server
	arriving atomic.Int64
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{plain: listen(t), secure: listen(t)}
	s.config, s.roots = certificate(t)
	t.Cleanup(func() {
		_, _ = s.plain.Close(), s.secure.Close()
		s.accepting.Wait()
	})
	s.accepting.Go(func() { s.accept(s.plain, func(server *Server, c net.Conn) { server.Plain().ServeConn(c) }) })
	s.accepting.Go(func() { s.accept(s.secure, s.handshake) })
	return s
}

func (s *site) accept(listener net.Listener, handle func(*Server, net.Conn)) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		server := s.current.Load()
		server.arriving.Add(1)
		s.accepting.Go(func() {
			defer server.arriving.Add(-1)
			handle(server.Server, c)
		})
	}
}

func (s *site) handshake(server *Server, c net.Conn) {
	secure := tls.Server(c, s.config)
	if err := secure.Handshake(); err != nil {
		_ = c.Close()
		return
	}
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		server.HTTP2().ServeConn(secure)
		return
	}
	server.HTTP1().ServeConn(secure)
}

// serve starts a server that gets the connections from now on, and stops it at the end of the test.
func (s *site) serve(t *testing.T, o Options) *Server {
	t.Helper()
	server := &instance{}
	o.Arriving = func() int { return int(server.arriving.Load()) }
	server.Server = New(o)
	run(t, server.Server)
	s.current.Store(server)
	return server.Server
}

// run runs a server until the end of the test.
func run(t *testing.T, server *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// client returns a client for one protocol, with connections of its own.
func (s *site) client(t *testing.T, http2, keepAlive bool) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{
		Protocols: protocols, DisableKeepAlives: !keepAlive, MaxIdleConnsPerHost: 4,
		TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: "shop.example.com"},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"shop.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		NextProtos:   []string{"h2", "http/1.1"},
	}, roots
}

// wire is a raw HTTP/1.1 client.
type wire struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, address string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return newWire(t, c)
}

func newWire(t *testing.T, c net.Conn) *wire {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &wire{t, c, bufio.NewReader(c)}
}

func (w *wire) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Fatalf("sending %q: %v", text, err)
	}
}

// answer reads an answer whole.
func (w *wire) answer() (*http.Response, string) {
	w.t.Helper()
	answer, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatalf("the answer broke off after %q: %v", body, err)
	}
	return answer, string(body)
}

func (w *wire) get(path string) (*http.Response, string) {
	w.t.Helper()
	w.send("GET " + path + " HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	return w.answer()
}

// ended fails the test unless the server closes the connection without another byte.
func (w *wire) ended() {
	w.t.Helper()
	if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 {
		w.t.Errorf("the connection did not end cleanly: %q, %v", rest, err)
	}
}

// until waits for something that another goroutine brings about.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-ticker.C:
		}
	}
}

// drainOf begins a Drain that lets tunnels go on as long as there are requests, and returns where its result comes.
func drainOf(t *testing.T, server *Server, timeout time.Duration) <-chan error {
	t.Helper()
	return drainWithin(t, server, timeout, Grace{})
}

func drainWithin(t *testing.T, server *Server, timeout time.Duration, grace Grace) <-chan error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	result := make(chan error, 1)
	go func() { result <- server.Drain(ctx, grace) }()
	until(t, "the drain begins", server.Draining)
	return result
}
