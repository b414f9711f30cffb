package attack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var loopback = netip.MustParseAddr("127.16.0.0")

// server answers /echo, and is as patient as a test wants.
func server(t *testing.T, headTimeout time.Duration) Options {
	t.Helper()
	start := func(secure bool) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		}))
		s.Config.ReadHeaderTimeout, s.Config.MaxHeaderBytes = headTimeout, 64<<10
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		if secure {
			s.EnableHTTP2 = true
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(s.Close)
		return s
	}
	plain, secure := start(false), start(true)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	return Options{
		Plain: plain.Listener.Addr().String(), Secure: secure.Listener.Addr().String(), Host: "example.com", Roots: roots,
		Connections: 4, PerSecond: 400, Bound: 10 * time.Second, Wait: 100 * time.Millisecond, From: loopback,
	}
}

// run attacks for a time.
func run(t *testing.T, name string, o Options, lasting time.Duration) Result {
	t.Helper()
	a, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), lasting)
	defer cancel()
	r, err := a.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryAttackReachesTheServerAndEndsWithItsContext(t *testing.T) {
	for _, a := range All() {
		t.Run(a.Name, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, leaks) }) // after the server has ended
			o := server(t, time.Minute)
			if a.Name == "head-bombs" {
				o.Total = 4
			}
			began := time.Now()
			r := run(t, a.Name, o, 2*time.Second)
			if r.Opened == 0 || r.Sent == 0 && a.Name != "slow-heads" && a.Name != "held-heads" {
				t.Errorf("nothing has happened: %+v", r)
			}
			if took := time.Since(began); took > 12*time.Second {
				t.Errorf("it ended after %v", took)
			}
		})
	}
}

func TestAConnectionThatTheServerEndsIsCutAndFollowedByAnother(t *testing.T) {
	o := server(t, 200*time.Millisecond)
	r := run(t, "slow-heads", o, 3*time.Second)
	if r.Cut <= o.Connections {
		t.Errorf("%+v", r)
	}
	if r.Outlived != 0 {
		t.Errorf("%d outlived a bound of %v", r.Outlived, o.Bound)
	}
}

func TestAConnectionThatIsLeftOpenOutlivesItsBoundAndIsNeverCut(t *testing.T) {
	o := server(t, time.Minute)
	o.Bound = 100 * time.Millisecond
	if r := run(t, "slow-heads", o, time.Second); r.Outlived == 0 || r.Spared == 0 || r.Cut != 0 {
		t.Errorf("%+v", r)
	}
}

func TestAServerThatIsSlowToCutIsWaitedFor(t *testing.T) {
	o := server(t, 2*time.Second)
	o.Wait = time.Minute
	if r := run(t, "slow-heads", o, time.Second); r.Cut == 0 || r.Spared != 0 {
		t.Errorf("%+v", r)
	}
}

func TestAFloodThatHasSentEnoughIsToBeCutAndAnotherNot(t *testing.T) {
	for enough, isSpared := range map[int]bool{8: true, 1 << 30: false} {
		o := server(t, time.Minute)
		o.Enough = enough
		if r := run(t, "h2-ping", o, 3*time.Second); r.Spared > 0 != isSpared || r.Cut != 0 {
			t.Errorf("%d are enough: %+v", enough, r)
		}
	}
}

func TestAnUploadOverHTTP2IsOverWhenItsStreamIs(t *testing.T) {
	ending := []byte{0, 0, 1, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0}
	for _, split := range []int{1, 9, 10, 18} {
		e := &ears{}
		if e.over(ending[:split]) || !e.over(ending[split:]) {
			t.Errorf("split at %d", split)
		}
	}
	if other := []byte{0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 0}; (&ears{}).over(other) {
		t.Error("another stream has ended it")
	}
}

func TestHeadsThatAreTooLargeAreToldApartFromThoseThatAreServed(t *testing.T) {
	o := server(t, time.Minute)
	o.Total = 8
	r := run(t, "head-bombs", o, 20*time.Second)
	if r.Sent != 8 || r.Answers["431"] == 0 || r.Answers["200"] != 0 {
		t.Errorf("%+v", r)
	}
}

func TestStrangersNamesDifferAndKnownOnesAreAskedForNowAndThen(t *testing.T) {
	seen := make(chan string, 1000)
	config := &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		seen <- hello.ServerName
		return nil, nil
	}}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	o := Options{From: loopback, Plain: "127.0.0.1:1", Secure: listener.Addr().String(), PerSecond: 1000, Total: 201, Names: []string{"a.test", "b.test"}}
	r := run(t, "handshakes", o, 20*time.Second)
	_ = listener.Close()
	<-ended
	close(seen)
	names := map[string]int{}
	for name := range seen {
		names[name]++
	}
	if r.Sent != 201 || r.Answers["alert tls: unrecognized name"] != 201 {
		t.Errorf("%+v", r)
	}
	if len(names) != 201-1 || names["a.test"] != 2 || names["b.test"] != 1 {
		t.Errorf("%d names, a.test %d times, b.test %d times", len(names), names["a.test"], names["b.test"])
	}
}

func TestNothingButTheLoopbackIsAttacked(t *testing.T) {
	for _, address := range []string{"192.0.2.1:443", "example.com:443", "localhost:443"} {
		if _, err := All()[0].Run(t.Context(), Options{Plain: "127.0.0.1:80", Secure: address}); err == nil {
			t.Errorf("%s was attacked", address)
		}
	}
}

func TestThePaceIsKept(t *testing.T) {
	p, began := newPacer(1000), time.Now()
	for range 300 {
		p.wait(t.Context(), 1)
	}
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("300 at 1000 a second took %v", took)
	}
}

func TestHalfOfTheConnectionsComeFromOneAddress(t *testing.T) {
	var ones []net.IP
	a, all := &attacker{Options: Options{From: netip.MustParseAddr("198.18.0.0")}}, netip.MustParsePrefix("198.18.0.0/15")
	for range 1000 {
		ip := a.address()
		if !all.Contains(netip.MustParseAddr(ip.String())) {
			t.Fatal(ip)
		}
		ones = append(ones, ip)
	}
	same := len(slices.DeleteFunc(ones, func(ip net.IP) bool { return ip.String() != "198.18.9.9" }))
	if same < 300 || same > 700 {
		t.Errorf("%d of 1000", same)
	}
}

func TestAStatusIsReadFromTheFirstLine(t *testing.T) {
	for line, want := range map[string]string{"HTTP/1.1 431 Request": "431", "": "something else", strings.Repeat("x ", 3): "something else"} {
		if got := status([]byte(line)); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
}
