package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"cutover/rules/store"
	"cutover/systemd"
	"cutover/tlsbridge"
)

// first is a TLS server that plays v1: it answers a CA's handshake with its own certificate, and echoes what it is sent.
func first(t *testing.T) (address string) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // for its certificate
	server.Close()
	listener := tls.NewListener(listenHere(t), &tls.Config{Certificates: server.TLS.Certificates, NextProtos: []string{"acme-tls/1"}})
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // with the test
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

// atEdge is a worker with both sockets whose visitors come through a load balancer on this machine, as well as directly.
type atEdge struct {
	*atWork
	secure string
}

func startEdge(t *testing.T, change func(*Config)) *atEdge {
	t.Helper()
	c := settled(t)
	c.ACME.Issuer = tlsbridge.IssuerLocal
	change(&c)
	secure := listenHere(t)
	w := startWorkerOn(t, c, systemd.Sockets{systemd.HTTP: {listenHere(t)}, systemd.HTTPS: {secure}}, nil, func(*daemon) {}).serving(t)
	w.apply(t, store.Edit{Table: store.TableRules, Row: map[string]any{"host": "shop.test", "percent": 100}})
	return &atEdge{w, secure.Addr().String()}
}

func (w *atWork) apply(t *testing.T, edits ...store.Edit) {
	t.Helper()
	if _, err := w.store.Apply(t.Context(), store.Author{Name: "test"}, edits, false); err != nil {
		t.Fatal(err)
	}
}

// shake does a handshake; a header may come before it.
func (e *atEdge) shake(t *testing.T, name, protocol, header string) (*tls.Conn, error) {
	t.Helper()
	c, err := net.Dial("tcp", e.secure)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, header); err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{protocol}})
	return secure, secure.HandshakeContext(t.Context())
}

func echoes(c io.ReadWriter) bool {
	if _, err := io.WriteString(c, "hello"); err != nil {
		return false
	}
	b := make([]byte, 5)
	_, err := io.ReadFull(c, b)
	return err == nil && string(b) == "hello"
}

func TestNobodyIsLedPastAGuardOnTheWayOfACA(t *testing.T) {
	v1 := first(t)
	e := startEdge(t, func(c *Config) { c.V1TLS = v1 })
	edit := store.Edit{Table: store.TableGuards, Row: map[string]any{"host": "shop.test", "path": "/admin", "deny": "192.0.2.1"}}
	if _, err := e.store.Apply(t.Context(), store.Author{Name: "test"}, []store.Edit{edit}, false); err != nil {
		t.Fatal(err)
	}
	if _, led := e.route("shop.test", []string{"acme-tls/1"}, netip.MustParseAddr("192.0.2.1")); led {
		t.Error("v1 is reached as it is, though the host has a guard")
	}
}

func TestACAIsLedToV1WhereWeHoldNoChallengeAndTheStreamOutlivesAPause(t *testing.T) {
	v1 := first(t)
	e := startEdge(t, func(c *Config) { c.V1TLS = v1 })
	c, err := e.shake(t, "shop.test", "acme-tls/1", "")
	if err != nil || !echoes(c) {
		t.Fatalf("v1 is not reached: %v", err)
	}
	if _, err := e.shake(t, "shop.test", "http/1.1", ""); err != nil {
		t.Errorf("a visitor: %v", err)
	}
	if _, err := e.shake(t, "stranger.test", "acme-tls/1", ""); err == nil {
		t.Error("an unknown host leads to v1")
	}
	if stats := e.front.Load().Stats(); stats.Tunnels != 1 {
		t.Errorf("%+v", stats)
	}
	if err := e.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	e.Pause()
	if holds := e.Worker().Holds; holds.Tunnels != 1 || !echoes(c) {
		t.Errorf("after the pause it holds %+v", holds)
	}
	if err := e.end(t); err != nil {
		t.Error(err)
	}
	if echoes(c) {
		t.Error("the stream outlives the process")
	}
}

func TestTheFirstHTTPSTargetOfV1IsAskedBeforeTheSetting(t *testing.T) {
	v1 := first(t)
	e := startEdge(t, func(c *Config) { c.V1TLS = "127.0.0.1:1" })
	e.apply(t,
		store.Edit{Table: store.TableTargets, Row: map[string]any{"upstream": "v1", "url": "http://127.0.0.1:1"}},
		store.Edit{Table: store.TableTargets, Row: map[string]any{"upstream": "v1", "url": "https://127.0.0.1:1", "state": "maint"}},
		store.Edit{Table: store.TableTargets, Row: map[string]any{"upstream": "v1", "url": "https://" + v1}},
	)
	if c, err := e.shake(t, "shop.test", "acme-tls/1", ""); err != nil || !echoes(c) {
		t.Errorf("v1 is not reached: %v", err)
	}
	if err := e.end(t); err != nil {
		t.Error(err)
	}
}

func TestWithoutAWayToV1ACAIsAnsweredHere(t *testing.T) {
	e := startEdge(t, func(*Config) {})
	if c, err := e.shake(t, "shop.test", "acme-tls/1", ""); err == nil && c.ConnectionState().NegotiatedProtocol != "acme-tls/1" {
		t.Error("another protocol was agreed on")
	}
	if stats := e.front.Load().Stats(); stats.Tunnels != 0 {
		t.Errorf("%+v", stats)
	}
	if err := e.end(t); err != nil {
		t.Error(err)
	}
}

func TestBehindALoadBalancerTheVisitorsAddressIsWhatTheRulesSee(t *testing.T) {
	e := startEdge(t, func(c *Config) {
		c.ProxyProtocol.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	e.apply(t, store.Edit{Table: store.TableRedirects, Row: map[string]any{"host": "shop.test", "path": "/", "to_url": "https://other.test/", "status": 302}})
	e.apply(t, store.Edit{Table: store.TableRules, Row: map[string]any{"host": "shop.test", "path": "/", "conditions": `{"client_ips":["203.0.113.7"]}`, "percent": 100}})
	header := "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
	ask := "GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n"
	plain, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(e.url, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plain.Close() }()
	_, _ = io.WriteString(plain, header)
	secure, err := e.shake(t, "shop.test", "http/1.1", header)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]net.Conn{"http": plain, "https": secure} {
		_, _ = io.WriteString(c, ask)
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(name, err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusServiceUnavailable { // v2 has no target; else it would be a redirect
			t.Errorf("%s: %s", name, answer.Status)
		}
	}
	if _, err := e.shake(t, "shop.test", "http/1.1", ""); err == nil {
		t.Error("a balancer without a header is served")
	}
	if err := e.end(t); err != nil {
		t.Error(err)
	}
}

func TestAHostThatIsPassedOnGoesWhereTheRulesSendItsVisitor(t *testing.T) {
	e := startEdge(t, func(*Config) {})
	e.apply(t,
		store.Edit{Table: store.TableTargets, Row: map[string]any{"upstream": "v1", "url": "https://10.0.0.1"}},
		store.Edit{Table: store.TableTargets, Row: map[string]any{"upstream": "v2", "url": "https://10.0.0.2:8443"}},
		store.Edit{Table: store.TableRules, Row: map[string]any{"host": "shop.test", "conditions": `{"client_ips":["203.0.113.7"]}`, "percent": 0}},
		store.Edit{Table: store.TableRedirects, Row: map[string]any{"host": "moved.test", "path": "/", "to_url": "https://other.test/", "status": 302}},
	)
	for _, c := range []struct{ host, client, want string }{
		{"shop.test", "203.0.113.8", "10.0.0.2:8443"}, {"shop.test", "203.0.113.7", "10.0.0.1:443"}, {"moved.test", "203.0.113.7", ""},
	} {
		if got := e.targetFor(c.host, netip.MustParseAddr(c.client)); got.Address != c.want {
			t.Errorf("%s from %s goes to %q, want %q", c.host, c.client, got.Address, c.want)
		}
	}
	if err := e.end(t); err != nil {
		t.Error(err)
	}
}

func TestAHostOfPassthroughIsItsUpstreamsThoughAllOthersAreServedHere(t *testing.T) {
	second := first(t)
	e := startEdge(t, func(*Config) {})
	e.apply(t,
		store.Edit{Table: store.TableUpstreams, Row: map[string]any{"name": "v2", "proxy_protocol": "off"}},
		store.Edit{Table: store.TableTargets, Row: map[string]any{"upstream": "v2", "url": "https://" + second}},
		store.Edit{Table: store.TableRules, Row: map[string]any{"host": "raw.test", "percent": 100}},
		store.Edit{Table: store.TableHosts, Row: map[string]any{"host": "raw.test", "tls": "passthrough"}},
	)
	c, err := e.shake(t, "raw.test", "acme-tls/1", "") // v2's own client may ask
	if err != nil || !echoes(c) {
		t.Errorf("v2 is not reached: %v", err)
	}
	if name := c.ConnectionState().PeerCertificates[0].DNSNames[0]; name != "example.com" {
		t.Errorf("the certificate is of %s", name)
	}
	if _, err := e.shake(t, "shop.test", "http/1.1", ""); err != nil {
		t.Errorf("a host that ends here: %v", err)
	}
	e.apply(t, store.Edit{Table: store.TableTargets, Row: map[string]any{"upstream": "v2", "url": "https://" + second, "state": "maint"}})
	if _, err := e.shake(t, "raw.test", "http/1.1", ""); err == nil {
		t.Error("without a target, a certificate of ours takes its place")
	}
	e.apply(t,
		store.Edit{Table: store.TableUpstreams, Row: map[string]any{"name": "v2", "proxy_protocol": "v2"}},
		store.Edit{Table: store.TableTargets, Row: map[string]any{"upstream": "v2", "url": "https://" + second, "state": "ready"}})
	if to := e.targetFor("raw.test", netip.MustParseAddr("203.0.113.7")); to.ProxyHeader != tlsbridge.ProxyHeaderV2 {
		t.Errorf("it goes to %+v", to)
	}
	if err := e.end(t); err != nil {
		t.Error(err)
	}
}

func TestAnHTTPSAddressHasAPort(t *testing.T) {
	for target, want := range map[string]string{
		"https://10.0.0.5": "10.0.0.5:443", "https://10.0.0.5:8443": "10.0.0.5:8443", "https://[::1]": "[::1]:443", "https://[::1]:1": "[::1]:1", "http://10.0.0.5": "",
	} {
		if got := tlsAddress(target); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
	if err := hostAndPort("10.0.0.5"); err == nil || !strings.Contains(fmt.Sprint(err), "such as 10.0.0.5:443") {
		t.Error(err)
	}
}

func TestAStreamThatIsPassedOnIsBoundByTheLimits(t *testing.T) {
	e := startEdge(t, func(c *Config) { c.Limits.PassthroughIdle, c.Limits.Stall = 2*time.Hour, time.Minute })
	if e.raw.Idle != 2*time.Hour || e.raw.Stall != time.Minute {
		t.Errorf("idle %v, stall %v", e.raw.Idle, e.raw.Stall)
	}
	if err := e.end(t); err != nil {
		t.Error(err)
	}
}
