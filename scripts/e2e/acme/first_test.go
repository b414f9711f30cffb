package acme

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"cutover/proxy"
	"cutover/proxy/upstream"
	"cutover/rules"
	"cutover/tlsbridge"
)

// v1 has had its certificates by itself, and goes on doing so behind us, with challenges of its own.

func TestAnACMEClientOfV1GetsItsCertificateByTLSALPN01ThroughUs(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := newEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) { o.HTTPPort = 0 })
	first := startV1(t, ca, "shop.test", "tls")
	results := make(chan string, 100)
	e.raw.OnResult = func(result string) { results <- result }
	e.route = func(name string, protocols []string, _ netip.Addr) (tlsbridge.Destination, bool) {
		challenge := len(protocols) == 1 && protocols[0] == "acme-tls/1"
		return tlsbridge.Destination{Address: first.secure}, challenge && e.allows(name) && !e.certificates.HoldsTLSChallenge(name)
	}
	e.run(t)
	if said := first.obtain(); said != "obtained" || len(results) == 0 {
		t.Errorf("v1 says %q, %d connections were led to it", said, len(results))
	}
	for len(results) > 0 {
		if result := <-results; result != "passed" {
			t.Error(result)
		}
	}
	mustShake(t, e, "shop.test", nil) // we have a challenge of our own for it now
	if len(results) > 0 || ca.Orders() != 2 {
		t.Errorf("%d connections of our own challenge were led to v1; %d orders", len(results), ca.Orders())
	}
}

func TestAnACMEClientOfV1GetsItsCertificateByHTTP01ThroughUs(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := newEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) { o.TLSPort = 0 })
	first := startV1(t, ca, "shop.test", "http")
	e.handler = rulesFor(t, first.web)
	e.run(t)
	if said := first.obtain(); said != "obtained" {
		t.Errorf("v1 says %q", said)
	}
	mustShake(t, e, "shop.test", nil)
	if ca.Orders() != 2 {
		t.Errorf("%d orders", ca.Orders())
	}
}

// rulesFor is the proxy with a host that has moved to v2 altogether, and to https.
func rulesFor(t *testing.T, first string) http.Handler {
	t.Helper()
	view, problems := rules.Compile(rules.Rows{
		Lineage: "test", Default: rules.DefaultRefuse,
		Upstreams: []rules.Upstream{{Name: "v1", Targets: []rules.Target{{ID: 1, URL: "http://" + first, Weight: 1, State: rules.StateReady}}}, {Name: "v2"}},
		Hosts:     []rules.Host{{Host: "shop.test", HTTPS: rules.HTTPSRedirect, Needs: 1}},
		Rules: []rules.Rule{{
			ID: 1, Host: "shop.test", Path: "/", Match: rules.KindPrefix, Conditions: "{}", V1: "v1", V2: "v2", Percent: 100,
			Sticky: rules.StickyCookie, Enabled: true, Needs: 1,
		}},
	}, nil, time.Now())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	visitors, err := proxy.LoadVisitors(filepath.Join(t.TempDir(), "visitor.key"))
	if err != nil {
		t.Fatal(err)
	}
	return &proxy.Handler{
		Views: fixed{view}, Upstreams: upstream.NewSet(upstream.Options{}), Visitors: visitors,
		CertificateReady: func(string) bool { return true },
	}
}

type fixed struct{ view *rules.View }

func (f fixed) Load() *rules.View { return f.view }

// Behind a load balancer that we insist on, certmagic still looks at our ports without a header.
func TestCertificatesAreIssuedBehindALoadBalancer(t *testing.T) {
	s := newSockets(t)
	web, secure := balance(t, s.web), balance(t, s.secure)
	ca := startPebble(t, sockets{web, secure}, nil)
	for _, off := range []func(*tlsbridge.CertificateOptions){
		func(o *tlsbridge.CertificateOptions) { o.HTTPPort = 0 },
		func(o *tlsbridge.CertificateOptions) { o.TLSPort = 0 },
	} {
		e := newEdge(t, s, ca, t.TempDir(), off)
		e.address = secure.Addr().String()
		e.balancers = &tlsbridge.ProxyProtocol{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
		e.run(t)
		mustShake(t, e, "shop.test", nil)
		e.stop()
	}
}

// balance is a load balancer before a socket.
func balance(t *testing.T, behind net.Listener) net.Listener {
	t.Helper()
	listener := listen(t)
	var carrying sync.WaitGroup
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // with the test
			}
			carrying.Go(func() { bring(c, behind.Addr().String()) })
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); carrying.Wait() })
	return listener
}

// bring carries a connection to an address with the header of the PROXY protocol.
func bring(c net.Conn, to string) {
	defer func() { _ = c.Close() }()
	target, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = target.Close() }()
	if _, err := proxyproto.HeaderProxyFromAddrs(2, c.RemoteAddr(), c.LocalAddr()).WriteTo(target); err != nil {
		return
	}
	var answer sync.WaitGroup
	answer.Go(func() {
		_, _ = io.Copy(c, target)
		_ = c.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(target, c)
	_ = target.(*net.TCPConn).CloseWrite()
	answer.Wait()
}
