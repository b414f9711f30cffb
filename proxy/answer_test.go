package proxy

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/rules"
)

func TestARequestThatComesBackIsALoop(t *testing.T) {
	var s *site
	back := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) })
	s = newSite(t, back, nil, nil)
	if a := s.get(t, "a.test", "/", nil); a.StatusCode != http.StatusLoopDetected {
		t.Errorf("got %d", a.StatusCode)
	}
	if target := "target=" + s.rows.Upstreams[0].Targets[0].URL; !strings.Contains(s.log.String(), "it may lead back to this proxy\" upstream=v1 "+target) {
		t.Errorf("the log does not name the target:\n%s", s.log.String())
	}
}

func TestWhatMustNotBeServedIsRefused(t *testing.T) {
	s := newSite(t, says("v1"), nil, nil)
	for text, want := range map[string]string{
		"CONNECT a.test:443 HTTP/1.1\nHost: a.test:443\nConnection: close\n\n": "405",
		"GET / HTTP/1.1\nHost: a..test\nConnection: close\n\n":                 "400",
		"GET / HTTP/1.0\n\n": "400",
		"GET /wp-login.php# HTTP/1.1\nHost: a.test\nConnection: close\n\n": "400",
		"GET * HTTP/1.1\nHost: a.test\nConnection: close\n\n":              "400",
	} {
		if got := s.raw(t, text); !strings.HasPrefix(got, "HTTP/1.1 "+want) && !strings.HasPrefix(got, "HTTP/1.0 "+want) {
			t.Errorf("%q: %.40q", text, got)
		}
	}
}

func TestWhatFollowsACONNECTIsNotServed(t *testing.T) {
	s := newSite(t, says("v1"), nil, nil)
	got := s.raw(t, "CONNECT a.test:443 HTTP/1.1\nHost: a.test:443\n\nGET / HTTP/1.1\nHost: a.test\n\n")
	if strings.Count(got, "HTTP/1.1 ") != 1 || !strings.Contains(got, "Connection: close") {
		t.Errorf("got %q", got)
	}
}

func TestATargetThatDoesNotAnswerIsToldApart(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	_ = listener.Close()
	slow := make(chan struct{})
	t.Cleanup(func() { close(slow) })
	late := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-slow:
		case <-r.Context().Done():
		}
	})
	s := newSite(t, nil, late, func(s *site) {
		s.rows.Upstreams[1].ResponseTimeout = 0.05
		s.rows.Upstreams = append(s.rows.Upstreams, rules.Upstream{Name: "dead", Targets: []rules.Target{{ID: 9, URL: "http://" + closed, Weight: 1, State: rules.StateReady}}})
		s.addRule("late.test", 100)
		s.addRule("dead.test", 0)
		s.rows.Rules[1].V1 = "dead"
	})
	for host, want := range map[string]int{"none.test": 503, "late.test": 504, "dead.test": 502} {
		a := s.get(t, host, "/", nil)
		if a.StatusCode != want || a.Header.Get("Retry-After") == "" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", host, a.StatusCode, a.Header)
		}
		if strings.Contains(a.body, "127.0.0.1") {
			t.Errorf("%s: the visitor learns of the target: %s", host, a.body)
		}
		if id := a.Header.Get("X-Request-Id"); id == "" || !strings.Contains(a.body, id) || !strings.Contains(s.log.String(), id) {
			t.Errorf("%s: the id %q is not with the visitor and in the log", host, id)
		}
	}
	for _, want := range []string{closed, "has no target that is ready", "timeout"} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the operator does not learn of %q:\n%s", want, s.log.String())
		}
	}
}

func TestVisitorsGetThePageInTheirFormAndTheOperatorsOwnIfThereIsOne(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "503.html"), []byte("<p>back soon, {{.RequestID}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, nil, nil, nil)
	ask := func(accept string) answer {
		return s.get(t, "a.test", "/", func(r *http.Request) { r.Header.Set("Accept", accept) })
	}
	for accept, want := range map[string]string{"text/html": "<h1>Service Unavailable</h1>", "application/json": `{"status":503,`, "*/*": "503 Service Unavailable\n"} {
		if a := ask(accept); !strings.Contains(a.body, want) {
			t.Errorf("%s: %s", accept, a.body)
		}
	}
	s.handler.Pages = OpenPages(dir, nil)
	if a := ask("text/html"); !strings.HasPrefix(a.body, "<p>back soon, ") {
		t.Errorf("own page: %s", a.body)
	}
}

func TestRedirectsAnswerAsTheyAreWritten(t *testing.T) {
	s := newSite(t, says("v1"), nil, func(s *site) {
		s.rows.Redirects = []rules.Redirect{
			{ID: 1, Host: "a.test", Path: "/old", Match: rules.KindPrefix, ToURL: "https://b.test/new", Status: 308, KeepPath: true, KeepQuery: true, Enabled: true},
			{ID: 2, Host: "a.test", Path: "/gone", Match: rules.KindPrefix, Status: 410, Enabled: true},
		}
	})
	if a := s.get(t, "a.test", "/old/x?y=1", nil); a.StatusCode != 308 || a.Header.Get("Location") != "https://b.test/new/x?y=1" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := s.get(t, "a.test", "/gone", nil); a.StatusCode != http.StatusGone {
		t.Errorf("%d", a.StatusCode)
	}
}

func TestClearTextIsRedirectedOnceACertificateIsThere(t *testing.T) {
	ready, prepared, asker := false, "", netip.Addr{}
	s := newSite(t, says("v1"), nil, func(s *site) {
		s.rows.Hosts = []rules.Host{{Host: "a.test", HTTPS: rules.HTTPSRedirect, HSTS: 600, Needs: 1}}
		s.handler.CertificateReady = func(string) bool { return ready }
		s.handler.PrepareCertificate = func(host string, client netip.Addr) { prepared, asker = host, client }
	})
	if a := s.get(t, "a.test", "/x", nil); a.body != "v1" || prepared != "a.test" || a.Header.Get("Strict-Transport-Security") != "" {
		t.Errorf("without a certificate: %d, prepared %q", a.StatusCode, prepared)
	}
	if !asker.IsLoopback() {
		t.Errorf("it was prepared for %v", asker)
	}
	ready = true
	if a := s.get(t, "a.test:8080", "/x%2Fy?z=;", nil); a.StatusCode != 308 || a.Header.Get("Location") != "https://a.test/x%2Fy?z=;" {
		t.Errorf("with one: %d %v", a.StatusCode, a.Header)
	}
	if a := s.get(t, "a.test", "/.well-known/acme-challenge/x", nil); a.body != "v1" {
		t.Errorf("the CA was redirected: %d", a.StatusCode)
	}
	if a := s.get(t, "b.test", "/", nil); a.body != "v1" {
		t.Errorf("another host was redirected: %d", a.StatusCode)
	}
}

// overTLS asks the handler as over TLS with a name.
func (s *site) overTLS(t *testing.T, host, name string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/", nil)
	r.TLS = &tls.ConnectionState{ServerName: name}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func TestHostAndTLSNameMustAgree(t *testing.T) {
	s := newSite(t, says("v1"), nil, nil)
	if w := s.overTLS(t, "A.test:443", "a.test"); w.Code != 200 {
		t.Errorf("the same: %d", w.Code)
	}
	if w := s.overTLS(t, "b.test", "a.test"); w.Code != http.StatusMisdirectedRequest {
		t.Errorf("another: %d", w.Code)
	}
}

func TestHSTSIsSentOverTLSAloneAndNeverOverTheTargetsOwn(t *testing.T) {
	own := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "own.test" {
			w.Header().Set("Strict-Transport-Security", "max-age=1")
		}
	})
	s := newSite(t, own, nil, func(s *site) {
		s.rows.Hosts = []rules.Host{{Host: "a.test", HTTPS: rules.HTTPSOff, HSTS: 600, Needs: 1}, {Host: "own.test", HTTPS: rules.HTTPSOff, HSTS: 600, Needs: 1}}
	})
	for host, want := range map[string]string{"a.test": "max-age=600", "own.test": "max-age=1", "b.test": ""} {
		if got := s.overTLS(t, host, host).Header().Get("Strict-Transport-Security"); got != want {
			t.Errorf("%s: %q", host, got)
		}
	}
}

func TestTheAccessLineSaysWhy(t *testing.T) {
	s := newSite(t, says("v1"), says("v2"), func(s *site) { s.addRule("a.test", 100) })
	s.get(t, "a.test", "/path?secret=1", nil)
	eventually(t, "the line", func() bool { return strings.Contains(s.lines.String(), "\n") })
	line := s.lines.String()
	for _, want := range []string{`"host":"a.test"`, `"path":"/path"`, `"status":200`, `"reason":"rule"`, `"rule":1`, `"version":"v2"`, `"upstream":"v2"`, `"target":"http://127.0.0.1:`, `"client":"127.0.0.1"`, `"bytes_in":0`, `"bytes_out":2`, `"request_id":"`, `"seconds":`} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is missing in %s", want, line)
		}
	}
	if strings.Contains(line, "secret") {
		t.Error("the query is in the line")
	}
}

func TestASampledLogKeepsEveryFailure(t *testing.T) {
	a := NewAccessLog(&lockedBuffer{}, AccessOptions{Sample: 0.000001})
	if !a.wants(503) || a.wants(200) {
		t.Error("a failure has no line, or a rare one came up at once")
	}
	if NewAccessLog(&lockedBuffer{}, AccessOptions{Off: true}).wants(503) {
		t.Error("off is not off")
	}
}

func TestMetricsCountByVersionAndClass(t *testing.T) {
	s := newSite(t, says("v1"), says("v2"), func(s *site) { s.addRule("a.test", 100) })
	s.get(t, "a.test", "/", nil)
	eventually(t, "the count", func() bool {
		w := httptest.NewRecorder()
		s.handler.Metrics.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		return strings.Contains(w.Body.String(), `cutover_requests_total{code="2xx",target="`+s.rows.Upstreams[1].Targets[0].URL+`",upstream="v2",version="v2"} 1`)
	})
}

func TestALeavingVisitorIsNoFaultOfTheTarget(t *testing.T) {
	arrived := make(chan struct{})
	s := newSite(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(arrived); <-r.Context().Done() }), nil, nil)
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-arrived:
	case <-time.After(5 * time.Second):
		t.Fatal("the request did not arrive")
	}
	_ = c.Close()
	eventually(t, "the line", func() bool { return strings.Contains(s.lines.String(), `"status":499`) })
}
