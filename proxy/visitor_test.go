package proxy

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// as makes a request come from an address, behind a trusted proxy.
func as(address, cookie string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("X-Forwarded-For", address)
		if cookie != "" {
			r.Header.Set("Cookie", "other=1; "+cookie)
		}
	}
}

func splitSite(t *testing.T, percent float64) *site {
	t.Helper()
	return newSite(t, says("v1"), says("v2"), func(s *site) {
		trustLoopback(s)
		s.addRule("a.test", percent)
		s.addRule("b.test", percent)
	})
}

// visitorCookie returns name=value of the cookie that an answer sets.
func visitorCookie(a answer) string {
	pair, _, _ := strings.Cut(a.Header.Get("Set-Cookie"), ";")
	return pair
}

func TestAVisitorStaysByCookieWhereverHeComesFrom(t *testing.T) {
	s := splitSite(t, 50)
	for n := range 20 {
		first := s.get(t, "a.test", "/", as(fmt.Sprintf("203.0.113.%d", n), ""))
		cookie := visitorCookie(first)
		if !strings.HasPrefix(cookie, CookieName+"=") || first.Header.Get("Vary") != "Cookie" {
			t.Fatalf("no cookie: %v", first.Header)
		}
		for m := range 5 {
			again := s.get(t, "a.test", "/", as(fmt.Sprintf("198.51.100.%d", m*7+n), cookie))
			if again.body != first.body || again.Header.Get("Set-Cookie") != "" {
				t.Fatalf("visitor %d: %s, then %s, %v", n, first.body, again.body, again.Header)
			}
		}
	}
}

func TestAClientThatReturnsNoCookieStaysByAddress(t *testing.T) {
	s := splitSite(t, 50)
	for n := range 20 {
		from := as(fmt.Sprintf("203.0.113.%d", n), "")
		if first, second := s.get(t, "a.test", "/", from), s.get(t, "a.test", "/", from); first.body != second.body {
			t.Fatalf("address %d: %s, then %s", n, first.body, second.body)
		}
	}
}

func TestRaisingPercentMovesNobodyBackAndLoweringOverridesEveryPin(t *testing.T) {
	s := splitSite(t, 10)
	var cookies []string
	for n := range 30 {
		cookies = append(cookies, visitorCookie(s.get(t, "a.test", "/", as(fmt.Sprintf("203.0.113.%d", n), ""))))
	}
	onV2 := map[string]bool{}
	for _, percent := range []float64{10, 30, 60, 99} {
		s.rows.Rules[0].Percent = percent
		s.publish(t)
		for _, cookie := range cookies {
			body := s.get(t, "a.test", "/", as("192.0.2.1", cookie)).body
			if onV2[cookie] && body == "v1" {
				t.Fatalf("at %v %% a visitor went back", percent)
			}
			onV2[cookie] = onV2[cookie] || body == "v2"
		}
	}
	s.rows.Rules[0].Percent = 0
	s.publish(t)
	for _, cookie := range cookies {
		if a := s.get(t, "a.test", "/", as("192.0.2.1", cookie)); a.body != "v1" {
			t.Fatal("a rollback did not override a cookie")
		}
	}
}

func TestCookiesAreIssuedOnlyWhereASplitIsInForce(t *testing.T) {
	s := splitSite(t, 100)
	for _, host := range []string{"a.test", "other.test"} {
		if a := s.get(t, host, "/", nil); a.Header.Get("Set-Cookie") != "" || a.Header.Get("Vary") != "" {
			t.Errorf("%s: %v", host, a.Header)
		}
	}
}

func TestTheCookieIsBoundToItsHostAndCannotBeForged(t *testing.T) {
	s := splitSite(t, 50)
	good := visitorCookie(s.get(t, "a.test", "/", as("203.0.113.1", "")))
	value := strings.TrimPrefix(good, CookieName+"=")
	flipped := "A" + value[1:]
	if value[0] == 'A' {
		flipped = "B" + value[1:]
	}
	for name, try := range map[string]struct{ host, cookie string }{
		"another host": {"b.test", good}, "changed": {"a.test", CookieName + "=" + flipped}, "empty": {"a.test", CookieName + "="}, "long": {"a.test", good + "AAAA"},
	} {
		if a := s.get(t, try.host, "/", as("203.0.113.1", try.cookie)); a.Header.Get("Set-Cookie") == "" {
			t.Errorf("%s: the cookie was accepted", name)
		}
	}
	cookie := s.overTLS(t, "a.test", "a.test").Header().Get("Set-Cookie")
	for _, want := range []string{"; Path=/", "; HttpOnly", "; Secure", "; SameSite=Lax", "; Max-Age="} {
		if !strings.Contains(cookie, want) {
			t.Errorf("%q has no %q", cookie, want)
		}
	}
	if strings.Contains(cookie, "Domain") {
		t.Errorf("%q is not for this host alone", cookie)
	}
}

func TestTheKeyIsKeptAcrossRestartsAndAnOlderOneStillCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visitor.key")
	first, err := LoadVisitors(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	again, err := LoadVisitors(path)
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddr("203.0.113.1")
	if first.byAddress("a.test", address) != again.byAddress("a.test", address) {
		t.Error("after a restart visitors are others")
	}
	if err := os.WriteFile(path, []byte("not hex\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadVisitors(path); err == nil {
		t.Error("a broken key file was accepted")
	}
}

func TestAnIPv6VisitorIsKnownByHisNetwork(t *testing.T) {
	v, err := LoadVisitors(filepath.Join(t.TempDir(), "k"))
	if err != nil {
		t.Fatal(err)
	}
	id := func(address string) [16]byte { return v.byAddress("a.test", netip.MustParseAddr(address)) }
	if id("2001:db8::1") != id("2001:db8::ffff") || id("2001:db8::1") == id("2001:db8:0:1::1") || id("203.0.113.1") == id("203.0.113.2") || id("203.0.113.1") != id("::ffff:203.0.113.1") {
		t.Error("addresses are told apart wrongly")
	}
}

func FuzzACookieOfNobodysIsNeverAccepted(f *testing.F) {
	v := &Visitors{keys: [][]byte{make([]byte, 32)}}
	for _, seed := range []string{"", "AAAA", strings.Repeat("A", 43), strings.Repeat("_", 43), "%%%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if id, ok := v.parse(value, "a.test"); ok {
			t.Errorf("%q is the cookie of %x", value, id)
		}
	})
}

func FuzzTheClientIsNeverATrustedProxyUnlessAllAre(f *testing.F) {
	h := &Handler{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, seed := range []string{"1.2.3.4", "1.2.3.4, 10.1.1.1", "x, 10.0.0.1", "[::1]:80", ",,", "10.0.0.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, chain string) {
		r := &http.Request{RemoteAddr: "10.9.9.9:1", Header: http.Header{"X-Forwarded-For": {chain}}}
		client := h.clientOf(r)
		if !client.IsValid() {
			t.Errorf("%q: no client", chain)
		}
		r.RemoteAddr = "192.0.2.1:1"
		if h.clientOf(r).String() != "192.0.2.1" {
			t.Errorf("%q: a stranger was believed", chain)
		}
	})
}
