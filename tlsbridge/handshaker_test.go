package tlsbridge

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// testConfig serves one certificate of a local CA for every name.
func testConfig(t testing.TB) *tls.Config {
	t.Helper()
	c, err := NewCertificates(CertificateOptions{Dir: t.TempDir(), Issuer: IssuerLocal, Allowed: func(name string) bool { return name == "a.test" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.TLSConfig()
}

// sink keeps what it gets.
type sink struct{ conns chan net.Conn }

func newSink() sink { return sink{make(chan net.Conn, 10)} }

func (s sink) ServeConn(c net.Conn) { s.conns <- c }

func TestEachConnectionGoesToTheSinkOfItsProtocol(t *testing.T) {
	h1, h2 := newSink(), newSink()
	h := &Handshaker{Config: testConfig(t), Sinks: map[string]Sink{"": h1, "http/1.1": h1, "h2": h2}}
	for protocol, want := range map[string]sink{"h2": h2, "http/1.1": h1, "": h1} {
		client, server := pair(t)
		h.Handle(server)
		config := &tls.Config{ServerName: "a.test", InsecureSkipVerify: true}
		if protocol != "" {
			config.NextProtos = []string{protocol}
		}
		if err := tls.Client(client, config).HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := <-want.conns
		if state := got.(*tls.Conn).ConnectionState(); state.NegotiatedProtocol != protocol {
			t.Errorf("%q came as %q", protocol, state.NegotiatedProtocol)
		}
		if got.RemoteAddr().String() != client.LocalAddr().String() {
			t.Error("the client's address is lost")
		}
		_ = got.Close()
	}
	if err := h.Wait(t.Context()); err != nil || h.Pending() != 0 {
		t.Errorf("%v, %d pending", err, h.Pending())
	}
}

// pair returns the two ends of a connection.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	listener := listen(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := listener.Accept()
		if err == nil {
			accepted <- c
		}
	}()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
}

func TestAClientThatSaysNothingIsCutAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		results := make(chan string, 1)
		h := &Handshaker{Config: &tls.Config{GetConfigForClient: HelloArrived}, OnResult: func(result string) { results <- result }}
		began := time.Now()
		h.Handle(server)
		if result := <-results; result != "timeout" || time.Since(began) != 5*time.Second {
			t.Errorf("%s after %v", result, time.Since(began))
		}
		_ = client.Close()
		if err := h.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyIssuingGivesAHandshakeMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, want := range map[string]time.Duration{"plain": 10 * time.Second, "issuing": 60 * time.Second} {
			client, server := net.Pipe()
			results, issued := make(chan string, 1), make(chan struct{})
			config := &tls.Config{GetConfigForClient: HelloArrived, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				if name == "issuing" {
					issuing(hello.Context())
				}
				<-issued
				return nil, nil
			}}
			deadline := &deadlineConn{Conn: server}
			h := &Handshaker{Config: config, OnResult: func(result string) { results <- result }}
			began := time.Now()
			h.Handle(deadline)
			go func() {
				_ = tls.Client(client, &tls.Config{ServerName: "a.test", InsecureSkipVerify: true}).HandshakeContext(t.Context())
			}()
			synctest.Wait()
			if got := deadline.at.Sub(began); got != want {
				t.Errorf("%s: the deadline is after %v, want %v", name, got, want)
			}
			close(issued)
			if result := <-results; result != "refused" {
				t.Errorf("%s: %s", name, result)
			}
			_ = client.Close()
		}
	})
}

// deadlineConn notes the last deadline that was set.
type deadlineConn struct {
	net.Conn
	at time.Time
}

func (c *deadlineConn) SetDeadline(at time.Time) error {
	c.at = at
	return c.Conn.SetDeadline(at)
}

func TestNoMoreThanSoManyCertificatesAreIssuedAtOnce(t *testing.T) {
	var events []string
	c, err := NewCertificates(CertificateOptions{
		Dir: t.TempDir(), Issuer: IssuerLocal, Allowed: func(string) bool { return true }, MaxInFlight: 2,
		OnEvent: func(event, _ string, _ error) { events = append(events, event) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	first, err := c.takeSlot("a.test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.takeSlot("b.test"); err != nil {
		t.Fatal(err)
	}
	second, err := c.takeSlot("a.test")
	if err != nil {
		t.Fatalf("a second visitor of the same name is refused: %v", err)
	}
	second()
	if _, err := c.takeSlot("c.test"); err == nil || len(events) != 1 || events[0] != "busy" {
		t.Errorf("a third: %v, %v", err, events)
	}
	first()
	if _, err := c.takeSlot("c.test"); err != nil {
		t.Errorf("after one was given back: %v", err)
	}
}

func TestTheLocalCAIsKeptAndItsRootSuffices(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		ca, err := openLocalCA(filepath.Join(dir, "local"))
		if err != nil {
			t.Fatal(err)
		}
		again, err := openLocalCA(filepath.Join(dir, "local"))
		if err != nil {
			t.Fatal(err)
		}
		if !ca.root.Equal(again.root) {
			t.Error("a new CA was made")
		}
	}
}

// A worker that serves again waits for the handshakes of before while new ones begin.
func TestHandshakesThatBeginWhileOthersAreWaitedForDisturbNobody(t *testing.T) {
	h := &Handshaker{Config: &tls.Config{GetConfigForClient: HelloArrived}}
	for range 20_000 {
		client, server := net.Pipe()
		h.Handle(server)
		waited := make(chan error, 1)
		go func() { waited <- h.Wait(t.Context()) }()
		_ = client.Close()
		for h.Pending() > 0 {
			runtime.Gosched()
		}
		client, server = net.Pipe()
		h.Handle(server)
		_ = client.Close()
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyHandshakesThatHaveBegunAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Handshaker{Config: &tls.Config{GetConfigForClient: HelloArrived}}
		first, server := net.Pipe()
		h.Handle(server)
		waited := make(chan error, 1)
		go func() { waited <- h.Wait(t.Context()) }()
		synctest.Wait()
		time.Sleep(time.Second)
		later, server := net.Pipe()
		h.Handle(server)
		began := time.Now()
		_ = first.Close()
		if err := <-waited; err != nil || time.Since(began) > 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_ = later.Close()
	})
}
