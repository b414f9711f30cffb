package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"cutover/rules"
)

// mounted puts a proxy before a target that knows itself otherwise than visitors do.
func mounted(t *testing.T, h http.Handler, row rules.Repair, change func(*site)) *site {
	t.Helper()
	return newSite(t, h, nil, func(s *site) {
		s.rows.Upstreams[0].Repair = row
		if change != nil {
			change(s)
		}
	})
}

// legacy is a shop that believes to be http://legacy.internal/app, and answers with what it was asked.
func legacy(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Location", "http://legacy.internal/app/cart?a=/app")
	header.Set("Content-Location", "/app/cart")
	header.Set("Refresh", "5; url='http://"+r.Context().Value(http.LocalAddrContextKey).(net.Addr).String()+"/app/'")
	header.Add("Set-Cookie", "sid=1; Domain=.legacy.internal; Path=/app; Expires=Wed, 21 Oct 2099 07:28:00 GMT; Partitioned")
	header.Add("Set-Cookie", "__Host-csrf=2; Path=/; Secure")
	header.Set("Alt-Svc", `h3=":443"`)
	header.Set("X-Powered-By", "PHP/5.2")
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, "%s %s %s | %v %v | %v", r.Method, r.Host, r.RequestURI, r.Header["X-Forwarded-Host"], r.Header["X-Forwarded-Prefix"], r.Header["Cookie"])
}

var legacyRow = rules.Repair{
	Host: "legacy.internal", StripPrefix: "/shop", AddPrefix: "/app", CookiePrefix: "v1_",
	ResponseHeaders: `{"X-Powered-By": null, "Alt-Svc": "clear", "+X-Env": "live"}`,
}

// askSecurely sends a request over TLS, by HTTP/1.1 or HTTP/2.
func askSecurely(t *testing.T, s *site, protocol int, target string, change func(*http.Request)) answer {
	t.Helper()
	server := httptest.NewUnstartedServer(s.handler)
	server.EnableHTTP2 = protocol == 2
	server.StartTLS()
	t.Cleanup(server.Close)
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	transport := &http.Transport{DialContext: dial, ForceAttemptHTTP2: protocol == 2, DisableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the server's certificate is for another name
	t.Cleanup(transport.CloseIdleConnections)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(request)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.ProtoMajor != protocol {
		t.Fatalf("%s, %v", response.Proto, err)
	}
	return answer{response, string(body)}
}

func TestATargetThatKnowsItselfOtherwiseFitsItsVisitors(t *testing.T) {
	for _, protocol := range []int{1, 2} {
		s := mounted(t, http.HandlerFunc(legacy), legacyRow, nil)
		a := askSecurely(t, s, protocol, "shop.example.com:8443/shop/a%2Fb?x=/shop", func(r *http.Request) {
			r.Header.Set("Cookie", "sid=0; v1_sid=1; other=3; __Host-v1_csrf=2")
			r.Header.Set("X-Forwarded-Prefix", "/forged")
		})
		if want := "GET legacy.internal /app/a%2Fb?x=/shop | [shop.example.com:8443] [/shop] | [sid=1; other=3; __Host-csrf=2]"; a.body != want {
			t.Errorf("HTTP/%d: the target saw\n  %s, want\n  %s", protocol, a.body, want)
		}
		for name, want := range map[string]string{
			"Location":         "[https://shop.example.com:8443/shop/cart?a=/app]",
			"Content-Location": "[/shop/cart]",
			"Refresh":          "[5; url='https://shop.example.com:8443/shop/']",
			"Set-Cookie":       "[v1_sid=1; Path=/shop; Expires=Wed, 21 Oct 2099 07:28:00 GMT; Partitioned __Host-v1_csrf=2; Path=/; Secure]",
			"Alt-Svc":          "[clear]",
			"X-Powered-By":     "[]",
			"X-Env":            "[live]",
		} {
			if got := fmt.Sprint(a.Header[name]); got != want {
				t.Errorf("HTTP/%d: %s is\n  %s, want\n  %s", protocol, name, got, want)
			}
		}
	}
}

func TestAPathIsMovedByteForByte(t *testing.T) {
	var got seen
	s := mounted(t, &got, rules.Repair{StripPrefix: "/shop", AddPrefix: "/app"}, nil)
	for path, want := range map[string]string{
		"/shop":                          "/app/",
		"/shop?q":                        "/app/?q",
		"/shop/a%2Fb//c;d|{e}?x=1;y=%zz": "/app/a%2Fb//c;d|{e}?x=1;y=%zz",
		"/shop//a":                       "/app//a",
		"/other%2f":                      "/app/other%2f",
		"http://a.test/shop/%7e":         "/app/%7e",
		"http://a.test":                  "/app/",
	} {
		s.raw(t, "GET "+path+" HTTP/1.1\nHost: a.test\nConnection: close\n\n")
		if r := got.last.Swap(nil); r == nil || r.RequestURI != want {
			t.Errorf("%s: the target saw %v, want %s", path, r, want)
		}
	}
}

func TestAPathWithoutItsPrefixMayBeginWithTwoSlashes(t *testing.T) {
	var got seen
	s := mounted(t, &got, rules.Repair{StripPrefix: "/shop"}, nil)
	s.raw(t, "GET /shop//evil.test/a%2Fb HTTP/1.1\nHost: a.test\nConnection: close\n\n")
	if r := got.last.Load(); r == nil || r.RequestURI != "//evil.test/a%2Fb" || r.Host != "a.test" {
		t.Errorf("the target saw %v", r)
	}
}

func TestAPathThatLeadsOutOfItsPrefixIsRefused(t *testing.T) {
	var got seen
	s := mounted(t, &got, rules.Repair{AddPrefix: "/tenant1"}, nil)
	for _, path := range []string{"/../tenant2", "/%2e%2e/tenant2", "/a/..%2f..%2ftenant2"} {
		if answer := s.raw(t, "GET "+path+" HTTP/1.1\nHost: a.test\nConnection: close\n\n"); !strings.HasPrefix(answer, "HTTP/1.1 400") || got.last.Load() != nil {
			t.Errorf("%s: %.40q", path, answer)
		}
	}
}

func TestATrustedProxysPrefixComesBeforeOurs(t *testing.T) {
	var got seen
	s := mounted(t, &got, rules.Repair{StripPrefix: "/shop"}, trustLoopback)
	s.get(t, "a.test", "/shop/x", func(r *http.Request) { r.Header.Set("X-Forwarded-Prefix", "/outer") })
	if prefix := got.last.Load().Header["X-Forwarded-Prefix"]; fmt.Sprint(prefix) != "[/outer/shop]" {
		t.Errorf("got %v", prefix)
	}
}

func TestWebSocketsAreRepairedAsWell(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "sid=1; Path=/")
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		_ = c.Write(r.Context(), websocket.MessageText, []byte(r.Host+r.RequestURI+r.Header.Get("X-Env")))
		_ = c.Close(websocket.StatusNormalClosure, "")
	})
	s := mounted(t, echo, rules.Repair{Host: "legacy.internal", StripPrefix: "/shop", CookiePrefix: "v1_", RequestHeaders: `{"X-Env": "live"}`}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, response, err := websocket.Dial(ctx, s.URL+"/shop/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body != nil {
		defer func() { _ = response.Body.Close() }()
	}
	if cookie := response.Header.Get("Set-Cookie"); cookie != "v1_sid=1; Path=/shop" {
		t.Errorf("cookie %q", cookie)
	}
	if _, got, err := c.Read(ctx); err != nil || string(got) != "legacy.internal/livelive" {
		t.Errorf("%q, %v", got, err)
	}
	_ = c.CloseNow()
}

func TestOurOwnCookieIsNeitherRepairedNorHandedOver(t *testing.T) {
	v1 := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "sid=1; Path=/")
		_, _ = io.WriteString(w, r.Header.Get("Cookie"))
	})
	s := mounted(t, v1, rules.Repair{StripPrefix: "/shop", CookiePrefix: "v1_", ResponseHeaders: `{"Set-Cookie": null}`}, func(s *site) { s.addRule("*", 0.01) })
	first := s.get(t, "a.test", "/shop/", nil)
	cookies := first.Cookies()
	if len(cookies) != 1 || cookies[0].Name != CookieName || cookies[0].Path != "/" {
		t.Fatalf("got %v", first.Header)
	}
	if a := s.get(t, "a.test", "/shop/", func(r *http.Request) { r.AddCookie(cookies[0]); r.Header.Add("Cookie", "v1_sid=1") }); a.body != "sid=1" || len(a.Cookies()) > 0 {
		t.Errorf("the target saw %q, the visitor %v", a.body, a.Header)
	}
}

func TestWhatCutoverAnswersItselfIsNotRepaired(t *testing.T) {
	s := mounted(t, nil, rules.Repair{StripPrefix: "/shop", ResponseHeaders: `{"X-Env": "live", "Cache-Control": "public"}`}, func(s *site) {
		s.rows.Redirects = []rules.Redirect{{ID: 1, Host: "a.test", Path: "/old", Match: rules.KindPrefix, ToURL: "http://127.0.0.1:9001/x", Status: 301, Enabled: true, Needs: 1}}
	})
	if a := s.get(t, "a.test", "/shop/x", nil); a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("X-Env") != "" || a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := s.get(t, "a.test", "/old", nil); a.Header.Get("Location") != "http://127.0.0.1:9001/x" || a.Header.Get("X-Env") != "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

func TestWhatACAAsksV1PassesAsItIs(t *testing.T) {
	var got seen
	s := mounted(t, &got, legacyRow, func(s *site) { s.addRule("a.test", 100) })
	s.get(t, "a.test", tokenPath, nil)
	if r := got.last.Load(); r == nil || r.RequestURI != tokenPath || r.Host != "a.test" {
		t.Errorf("v1 saw %v", r)
	}
}

func TestWithoutARowOnlyAnAddressThatNobodyCanReachIsReplaced(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.Header().Set("Set-Cookie", "sid=1; Domain=127.0.0.1")
		w.WriteHeader(http.StatusFound)
	}), nil, nil)
	own := s.rows.Upstreams[0].Targets[0].URL
	for said, want := range map[string]string{
		own + "/login":                  "http://a.test/login",
		"http://127.0.0.1:1/login":      "http://127.0.0.1:1/login",
		"https://elsewhere.test/":       "https://elsewhere.test/",
		"/login":                        "/login",
		"https://a.test/login?a=" + own: "https://a.test/login?a=" + own,
	} {
		a := s.get(t, "a.test", "/x?to="+said, nil)
		if got := a.Header.Get("Location"); got != want || a.Header.Get("Set-Cookie") != "sid=1; Domain=127.0.0.1" {
			t.Errorf("%s becomes %s, want %s; %v", said, got, want, a.Header)
		}
	}
}

func TestAHeaderThatIsRemovedIsNotGuessedAnew(t *testing.T) {
	s := mounted(t, says("<html>"), rules.Repair{ResponseHeaders: `{"Content-Type": null}`}, nil)
	if a := s.get(t, "a.test", "/", nil); a.Header.Get("Content-Type") != "" {
		t.Errorf("got %v", a.Header)
	}
}

func TestARepairHoldsForTheNextRequestWhenItsRowChanges(t *testing.T) {
	var got seen
	s := mounted(t, &got, rules.Repair{Host: "one.test"}, nil)
	for _, c := range []struct{ host, want string }{{"one.test", "one.test"}, {"two.test", "two.test"}, {"", "a.test"}} {
		s.rows.Upstreams[0].Repair.Host = c.host
		s.publish(t)
		s.get(t, "a.test", "/", nil)
		if host := got.last.Load().Host; host != c.want {
			t.Errorf("host %q, want %q", host, c.want)
		}
	}
}
