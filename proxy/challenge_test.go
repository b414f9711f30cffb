package proxy

import (
	"net/http"
	"strings"
	"testing"

	"cutover/rules"
)

const tokenPath = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"

func TestAnACMEClientOfV1IsAskedThoughItsHostIsAllOnV2(t *testing.T) {
	s := newSite(t, says("v1"), says("v2"), func(s *site) {
		s.rows.Default = rules.DefaultRefuse
		s.addRule("a.test", 100)
		s.addRule("raw.test", 100)
		s.addRule("plain.test", 100)
		s.rows.Redirects = []rules.Redirect{{ID: 1, Host: "moved.test", Path: "/", Match: rules.KindPrefix, ToURL: "https://b.test/", Status: 308, Enabled: true}}
		s.rows.Guards = []rules.GuardRow{{ID: 1, Host: "*", Path: "/", Deny: "127.0.0.1", Enabled: true}}
		s.rows.Hosts = []rules.Host{{Host: "a.test", HTTPS: rules.HTTPSRedirect}, {Host: "raw.test", HTTPS: rules.HTTPSOff, TLS: rules.TLSPassthrough}}
		s.handler.CertificateReady = func(string) bool { return true }
	})
	for _, host := range []string{"a.test", "A.TEST:8080", "moved.test"} {
		if a := s.get(t, host, tokenPath, nil); a.StatusCode != 200 || a.body != "v1" {
			t.Errorf("%s: %d %q", host, a.StatusCode, a.body)
		}
	}
	s.rows.Guards[0].Enabled = false
	s.publish(t)
	if a := s.get(t, "stranger.test", tokenPath, nil); a.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("an unknown host gets %d %q", a.StatusCode, a.body)
	}
	post := func(r *http.Request) { r.Method = http.MethodPost }
	if a := s.get(t, "plain.test", tokenPath, post); a.body != "v2" {
		t.Errorf("a POST reaches %q", a.body)
	}
	if a := s.get(t, "a.test", tokenPath, post); a.StatusCode != http.StatusPermanentRedirect {
		t.Errorf("a POST in clear text where the host asks for https: %d %q", a.StatusCode, a.body)
	}
	if a := s.get(t, "raw.test", tokenPath, nil); a.body != "v2" {
		t.Errorf("a host whose TLS v2 ends is asked at %q", a.body)
	}
	eventually(t, "the reason in the log", func() bool { return strings.Contains(s.lines.String(), `"reason":"challenge"`) })
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a.test"+tokenPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := s.handler.Decide(request); d.Upstream != "v1" || !strings.Contains(d.Explain()[0], "A CA asks") {
		t.Errorf("it is explained as %+v: %v", d, d.Explain())
	}
}

func TestNoGuardIsSaidToHoldForWhatACAAsksAnACMEClientOfV1(t *testing.T) {
	s := newSite(t, says("v1"), says("v2"), func(s *site) {
		s.addRule("a.test", 100)
		s.rows.Guards = []rules.GuardRow{{ID: 1, Host: "*", Path: "/", Deny: "127.0.0.1", Enabled: true}}
	})
	for path, want := range map[string]int{tokenPath: 0, tokenPath + "/x": http.StatusForbidden} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a.test"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.RemoteAddr = "127.0.0.1:1"
		if g := s.handler.Guarding(request); g.Status != want || (want == 0) != (g.Guard == nil) {
			t.Errorf("%s: %+v", path, g)
		}
	}
}

func TestOnlyWhatACAAsksStaysInClearText(t *testing.T) {
	s := newSite(t, says("v1"), says("v2"), func(s *site) {
		s.addRule("a.test", 100)
		s.addRule("raw.test", 100)
		s.rows.Hosts = []rules.Host{
			{Host: "a.test", HTTPS: rules.HTTPSRedirect, Needs: 1},
			{Host: "raw.test", HTTPS: rules.HTTPSRedirect, TLS: rules.TLSPassthrough, Needs: 1},
		}
		s.handler.CertificateReady = func(string) bool { return true }
	})
	if a := s.get(t, "raw.test", tokenPath, nil); a.body != "v2" {
		t.Errorf("a CA asks the upstream of a host with passthrough, and gets %d %q", a.StatusCode, a.body)
	}
	dir := "/.well-known/acme-challenge/"
	for _, path := range []string{dir + "..%2fadmin", dir + "../admin", dir + "%2e%2e/admin", dir, dir + "x/y", "/%2ewell-known/acme-challenge/..%2Fadmin", tokenPath + "?x"} {
		for _, host := range []string{"a.test", "raw.test"} {
			if a := s.get(t, host, path, nil); a.StatusCode != http.StatusPermanentRedirect {
				t.Errorf("%s%s: %d %q", host, path, a.StatusCode, a.body)
			}
		}
	}
}
