package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"cutover/rules"
)

func TestTheClientIsTheRightmostHopThatIsNoTrustedProxy(t *testing.T) {
	h := &Handler{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}}
	for _, c := range []struct {
		peer  string
		lines []string
		want  string
	}{
		{"192.0.2.1:1", []string{"203.0.113.9"}, "192.0.2.1"},
		{"10.0.0.1:1", nil, "10.0.0.1"},
		{"10.0.0.1:1", []string{"198.51.100.7, 203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"198.51.100.7, 203.0.113.9, 10.0.0.2"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"198.51.100.7", "203.0.113.9,10.0.0.2"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"10.0.0.3,10.0.0.2"}, "10.0.0.3"},
		{"10.0.0.1:1", []string{"203.0.113.9, nonsense, 10.0.0.2"}, "10.0.0.2"},
		{"10.0.0.1:1", []string{"203.0.113.9, "}, "10.0.0.1"},
		{"10.0.0.1:1", []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"10.0.0.1:1", []string{"[2001:db9::1]:4711"}, "2001:db9::1"},
		{"10.0.0.1:1", []string{"[2001:db9::1]"}, "2001:db9::1"},
		{"10.0.0.1:1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"[::ffff:10.0.0.1]:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"[2001:db8::1%eth0]:1", []string{"203.0.113.9"}, "203.0.113.9"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.lines}}
		if got := h.clientOf(r).String(); got != c.want {
			t.Errorf("peer %s, chain %q: %s, want %s", c.peer, c.lines, got, c.want)
		}
	}
}

func TestAnUnderscoreDoesNotSmuggleAForwardingHeaderIn(t *testing.T) {
	for _, change := range []func(*site){nil, trustLoopback} {
		var got seen
		s := newSite(t, &got, nil, change)
		s.raw(t, "GET / HTTP/1.1\nHost: a.test\nConnection: close\nX_Forwarded_For: 6.6.6.6\nX-Real_IP: 6.6.6.6\nX_CUTOVER_VERSION: v2\nProxy: http://evil\nmy_own: stays\n\n")
		for name, values := range got.last.Load().Header {
			if strings.Contains(fmt.Sprint(values), "6.6.6.6") || name == "X_cutover_version" || name == "Proxy" {
				t.Errorf("%s: %q reached the target", name, values)
			}
		}
		if got.last.Load().Header.Get("My_own") != "stays" {
			t.Error("a header that means nothing to us was dropped")
		}
	}
}

func TestWhatATrustedProxySaysReachesTheTarget(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, trustLoopback)
	want := map[string]string{"Forwarded": "for=192.0.2.60", "X-Forwarded-Port": "8443", "X-Forwarded-Prefix": "/app", "X-Forwarded-Host": "www.test", "X-Cutover-Version": "v2"}
	s.get(t, "a.test", "/", func(r *http.Request) {
		for name, value := range want {
			r.Header.Set(name, value)
		}
	})
	for name, value := range want {
		if got.last.Load().Header.Get(name) != value {
			t.Errorf("%s is %q", name, got.last.Load().Header.Get(name))
		}
	}
}

func TestARequestIDThatATrustedProxyGaveIsKeptIfItIsOne(t *testing.T) {
	s := newSite(t, says(""), nil, trustLoopback)
	for id, kept := range map[string]bool{"abc-123": true, "with space": false, strings.Repeat("a", 129): false} {
		a := s.get(t, "a.test", "/", func(r *http.Request) { r.Header.Set("X-Request-Id", id) })
		if got := a.Header.Get("X-Request-Id"); (got == id) != kept || got == "" {
			t.Errorf("%q becomes %q", id, got)
		}
	}
}

func TestHTTPSThatATrustedProxyEndsIsHTTPS(t *testing.T) {
	s := newSite(t, says("v1"), says("v2"), func(s *site) {
		trustLoopback(s)
		s.addRule("a.test", 50)
		s.rows.Hosts = []rules.Host{{Host: "a.test", HTTPS: rules.HTTPSRedirect, HSTS: 600, Needs: 1}}
		s.handler.CertificateReady = func(string) bool { return true }
	})
	proto := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", value) }
	}
	secure := s.get(t, "a.test", "/", proto("https"))
	if secure.StatusCode != http.StatusOK || secure.Header.Get("Strict-Transport-Security") == "" || !strings.Contains(secure.Header.Get("Set-Cookie"), "; Secure") {
		t.Errorf("https: %d %v", secure.StatusCode, secure.Header)
	}
	for _, other := range []string{"http", "gopher", ""} {
		if a := s.get(t, "a.test", "/", proto(other)); a.StatusCode != http.StatusPermanentRedirect {
			t.Errorf("%q: %d", other, a.StatusCode)
		}
	}
}

func TestAStrangerCannotClaimHTTPS(t *testing.T) {
	s := newSite(t, says("v1"), nil, func(s *site) {
		s.rows.Hosts = []rules.Host{{Host: "a.test", HTTPS: rules.HTTPSRedirect, Needs: 1}}
		s.handler.CertificateReady = func(string) bool { return true }
	})
	if a := s.get(t, "a.test", "/", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }); a.StatusCode != http.StatusPermanentRedirect {
		t.Errorf("got %d", a.StatusCode)
	}
}

func TestALoopIsFoundAmongOthersWhoForwarded(t *testing.T) {
	for line, want := range map[string]bool{
		"me": true, "other, me": true, "me; q=1 , other": true, "meow": false, "other": false, "": false, "other; me": false,
	} {
		if looped([]string{"first", line}, "me") != want {
			t.Errorf("%q", line)
		}
	}
}

func FuzzTheClientIsAHopOfTheChainOrThePeer(f *testing.F) {
	for _, seed := range []string{"1.2.3.4", "1.2.3.4, 10.1.1.1", "x, 10.0.0.1", "[::1]:80, 10.0.0.2", ",,", "10.0.0.1,", "fe80::1%eth0", "[[1.2.3.4]]", "1.2.3.4:99999"} {
		f.Add(seed, "10.0.0.7")
	}
	trusted := netip.MustParsePrefix("10.0.0.0/8")
	peer := netip.MustParseAddr("10.9.9.9")
	f.Fuzz(func(t *testing.T, left, right string) {
		client := rightmostUntrusted([]string{left, right}, peer, trusted.Contains)
		if !client.IsValid() || client.Is4In6() || client.Zone() != "" {
			t.Fatalf("%q, %q: client %v", left, right, client)
		}
		if client == peer {
			return
		}
		found := false
		for _, hop := range strings.Split(left+","+right, ",") {
			address, ok := parseHop(hop)
			found = found || (ok && address == client)
		}
		if !found {
			t.Errorf("%q, %q: %v stands nowhere", left, right, client)
		}
	})
}
