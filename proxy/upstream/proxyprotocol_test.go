package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pires/go-proxyproto"

	"cutover/rules"
)

// announced is a target that takes no connection without a header of the PROXY protocol, and answers with what the header says. It
// counts its connections, and those that are open.
type announced struct {
	*httptest.Server
	mu          sync.Mutex
	connections int
	open        map[net.Conn]bool
}

func (a *announced) count() (connections, open int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.connections, len(a.open)
}

type headerKey struct{}

// headerOf finds the parser's connection below TLS.
func headerOf(c net.Conn) *proxyproto.Header {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return c.(*proxyproto.Conn).ProxyHeader()
}

func newAnnounced(t *testing.T, network string, pair *tls.Certificate) *announced {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		at = filepath.Join(t.TempDir(), "app.sock")
	}
	listener, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	a := &announced{open: map[net.Conn]bool{}}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				w.WriteHeader(http.StatusHTTPVersionNotSupported)
				return
			}
			_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n%s", told(r))
			_ = c.Close()
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, told(r))
	}))
	_ = a.Listener.Close()
	a.Listener = &proxyproto.Listener{Listener: listener}
	a.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.Config.Protocols = new(http.Protocols)
	a.Config.Protocols.SetHTTP1(true)
	a.Config.Protocols.SetHTTP2(true)
	a.Config.Protocols.SetUnencryptedHTTP2(true)
	a.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, headerKey{}, c) }
	a.Config.ConnState = func(c net.Conn, state http.ConnState) {
		a.mu.Lock()
		defer a.mu.Unlock()
		switch state {
		case http.StateNew:
			a.connections++
			a.open[c] = true
		case http.StateClosed, http.StateHijacked:
			delete(a.open, c)
		}
	}
	if pair != nil {
		a.TLS = &tls.Config{Certificates: []tls.Certificate{*pair}}
		a.EnableHTTP2 = true
		a.StartTLS()
	} else {
		a.Start()
	}
	t.Cleanup(a.Close)
	return a
}

// told says what the header of a request's connection said.
func told(r *http.Request) string {
	header := headerOf(r.Context().Value(headerKey{}).(net.Conn))
	if header == nil {
		return "nothing"
	}
	if header.Command.IsLocal() || header.TransportProtocol == proxyproto.UNSPEC {
		return fmt.Sprintf("v%d nobody", header.Version)
	}
	return fmt.Sprintf("v%d %v to %v", header.Version, header.SourceAddr, header.DestinationAddr)
}

// announcedKinds are targets of each kind that HTTP is spoken to.
func announcedKinds(t *testing.T) (targets map[string]*announced, roots *x509.CertPool) {
	t.Helper()
	ca := newAuthority(t, "Ours")
	roots = x509.NewCertPool()
	roots.AddCert(ca.Certificate)
	pair := ca.issue(t, "app.internal", nil)
	plain, secure, socket := newAnnounced(t, "tcp", nil), newAnnounced(t, "tcp", &pair), newAnnounced(t, "unix", nil)
	at := func(a *announced) string { return a.Listener.Addr().String() }
	return map[string]*announced{
		"http://" + at(plain): plain, "h2c://" + at(plain): plain, "https://" + at(secure): secure, "h2://" + at(secure): secure,
		"unix:" + at(socket): socket, "h2c+unix:" + at(socket): socket,
	}, roots
}

func announcing(url string, version rules.ProxyProtocol) *rules.Upstream {
	u := upstreamOf(url)
	u.ProxyProtocol = version
	return u
}

func visitor(from, to string) Client {
	return Client{From: netip.MustParseAddrPort(from), To: netip.MustParseAddrPort(to)}
}

func TestEachConnectionToATargetBeginsWithTheVisitorsAddressIfItsUpstreamWantsIt(t *testing.T) {
	targets, roots := announcedKinds(t)
	for _, version := range []rules.ProxyProtocol{rules.ProxyProtocolV1, rules.ProxyProtocolV2} {
		for url := range targets {
			p := newSet(t, Options{Roots: roots}).For(announcing(url, version))
			for _, row := range []struct {
				v    Client
				want string
			}{
				{visitor("192.0.2.1:1000", "192.0.2.9:443"), " 192.0.2.1:1000 to 192.0.2.9:443"},
				{visitor("[2001:db8::1]:0", "[2001:db8::9]:443"), " [2001:db8::1]:0 to [2001:db8::9]:443"},
				{Client{From: netip.MustParseAddrPort("192.0.2.1:0")}, " 192.0.2.1:0 to 0.0.0.0:0"},
				{Client{}, " nobody"},
			} {
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					got, err := do(WithClient(t.Context(), row.v), t, p, method, "")
					if err != nil || got != string(version)+row.want {
						t.Errorf("%s %s %s: %q, %v, want %q", method, version, url, got, err, row.want)
					}
				}
			}
		}
	}
}

func TestAConnectionThatNamesAVisitorServesOneRequestAndIsClosed(t *testing.T) {
	targets, roots := announcedKinds(t)
	for url, target := range targets {
		before, _ := target.count()
		p := newSet(t, Options{Roots: roots}).For(announcing(url, rules.ProxyProtocolV2))
		var group sync.WaitGroup
		for n := range 20 {
			group.Go(func() {
				from := fmt.Sprintf("192.0.2.%d:1000", n+1)
				if got, err := do(WithClient(t.Context(), visitor(from, "192.0.2.99:443")), t, p, http.MethodGet, ""); err != nil || got != "v2 "+from+" to 192.0.2.99:443" {
					t.Errorf("%s: %s was told as %q, %v", url, from, got, err)
				}
			})
		}
		group.Wait()
		if connections, _ := target.count(); connections-before != 20 {
			t.Errorf("%s: %d connections for 20 requests", url, connections-before)
		}
		eventually(t, "the connections of "+url+" to be closed", func() bool { _, open := target.count(); return open == 0 })
	}
}

func TestAVisitorWhoLeavesWhileHisConnectionIsMadeLeavesNoneBehind(t *testing.T) {
	targets, roots := announcedKinds(t)
	for url, target := range targets {
		p := newSet(t, Options{Roots: roots}).For(announcing(url, rules.ProxyProtocolV1))
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				go cancel()
				if _, err := do(ctx, t, p, http.MethodGet, ""); err != nil && !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", url, err)
				}
			})
		}
		group.Wait()
		eventually(t, "the connections of "+url+" to be closed", func() bool { _, open := target.count(); return open == 0 })
	}
}

func TestATunnelBeginsWithTheVisitorsAddress(t *testing.T) {
	targets, roots := announcedKinds(t)
	for url := range targets {
		r, _ := http.NewRequestWithContext(WithClient(t.Context(), visitor("192.0.2.1:1000", "192.0.2.9:443")), http.MethodGet, "/", nil)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
		response, err := newSet(t, Options{Roots: roots}).For(announcing(url, rules.ProxyProtocolV1)).RoundTrip(r)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || string(text) != "v1 192.0.2.1:1000 to 192.0.2.9:443" {
			t.Errorf("%s: %q, %v", url, text, err)
		}
	}
}

func TestOurOwnChecksAndProbesSayThatTheyAreNobodys(t *testing.T) {
	targets, roots := announcedKinds(t)
	for _, version := range []rules.ProxyProtocol{rules.ProxyProtocolV1, rules.ProxyProtocolV2} {
		for url := range targets {
			u := announcing(url, version)
			u.Check = rules.Check{Path: "/", Timeout: 60, Status: "200", Body: string(version) + " nobody"}
			target := newSet(t, Options{Roots: roots}).For(u).targets[0]
			if err := (&task{"v1", target, u.Check}).look(t.Context()); err != nil {
				t.Errorf("%s %s: the check says %v", version, url, err)
			}
			if err := target.connections.try(t.Context()); err != nil {
				t.Errorf("%s %s: the probe says %v", version, url, err)
			}
		}
	}
}
