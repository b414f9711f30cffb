package proxy

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cutover/rules"
)

func TestTheTargetDoesNotSeeTheVisitorCookie(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	for sent, want := range map[string]string{
		CookieName + "=x":                    "[]",
		"a=1; " + CookieName + "=x; b=\"2;3": `[a=1; b="2;3]`,
		CookieName + "=x; a=1":               "[a=1]",
		"a=1;" + CookieName + "=x":           "[a=1]",
		"a=1;b=2;;c":                         "[a=1;b=2;;c]",
		"x" + CookieName + "=1":              "[x" + CookieName + "=1]",
	} {
		s.raw(t, "GET / HTTP/1.1\nHost: a.test\nConnection: close\nCookie: "+sent+"\n\n")
		if cookies := fmt.Sprint(got.last.Load().Header["Cookie"]); cookies != want {
			t.Errorf("%q arrives as %s, want %s", sent, cookies, want)
		}
	}
}

func TestVaryIsAddedToWhatTheTargetSaysAndNotTwice(t *testing.T) {
	vary := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, line := range r.Header["Want"] {
			w.Header().Add("Vary", line)
		}
	})
	s := newSite(t, vary, vary, func(s *site) { s.addRule("a.test", 50) })
	for sent, want := range map[string]string{"Accept": "[Accept Cookie]", "accept, COOKIE": "[accept, COOKIE]", "*": "[*]", "X-Cookie": "[X-Cookie Cookie]"} {
		a := s.get(t, "a.test", "/", func(r *http.Request) { r.Header.Set("Want", sent) })
		if got := fmt.Sprint(a.Header["Vary"]); got != want {
			t.Errorf("%s becomes %s, want %s", sent, got, want)
		}
	}
}

func TestTheRedirectToHTTPSMarksNobody(t *testing.T) {
	s := newSite(t, says("v1"), says("v2"), func(s *site) {
		s.addRule("a.test", 50)
		s.rows.Hosts = []rules.Host{{Host: "a.test", HTTPS: rules.HTTPSRedirect, Needs: 1}}
		s.handler.CertificateReady = func(string) bool { return true }
	})
	a := s.get(t, "a.test", "/", nil)
	if a.StatusCode != http.StatusPermanentRedirect || a.Header.Get("Set-Cookie") != "" || a.Header.Get("Vary") != "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

func TestStickyByAddressIssuesNoCookieAndBelievesNone(t *testing.T) {
	s := newSite(t, says("v1"), says("v2"), func(s *site) {
		trustLoopback(s)
		s.addRule("a.test", 50)
	})
	cookies := map[string]string{}
	for n := range 40 {
		a := s.get(t, "a.test", "/", as(fmt.Sprintf("203.0.113.%d", n), ""))
		cookies[a.body] = visitorCookie(a)
	}
	s.rows.Rules[0].Sticky = rules.StickyAddress
	s.publish(t)
	alone := s.get(t, "a.test", "/", as("198.51.100.1", ""))
	for _, cookie := range cookies {
		a := s.get(t, "a.test", "/", as("198.51.100.1", cookie))
		if a.body != alone.body || a.Header.Get("Set-Cookie") != "" || a.Header.Get("Vary") != "" {
			t.Errorf("%s instead of %s, %v", a.body, alone.body, a.Header)
		}
	}
}

func TestAnOlderKeyStillCountsAndANewOneMovesNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visitor.key")
	before, err := LoadVisitors(path)
	if err != nil {
		t.Fatal(err)
	}
	old, _ := os.ReadFile(path)
	fresh := strings.Repeat("ab", 32) + "\n"
	if err := os.WriteFile(path, append([]byte(fresh+"\n"), old...), 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := LoadVisitors(path)
	if err != nil {
		t.Fatal(err)
	}
	visitor := rules.Visitor{ID: before.byAddress("a.test", netip.MustParseAddr("192.0.2.1"))}
	if after.byAddress("a.test", netip.MustParseAddr("192.0.2.1")) != visitor.ID {
		t.Error("a new key moves visitors who are known by their address")
	}
	if id, ok := after.parse(before.cookie("a.test", visitor, true).Value, "a.test"); !ok || id != visitor.ID {
		t.Error("a cookie of the older key is refused")
	}
	if _, ok := before.parse(after.cookie("a.test", visitor, true).Value, "a.test"); ok {
		t.Error("the newest key does not sign")
	}
}

func TestProcessesThatStartAtOnceAgreeOnTheKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "visitor.key")
	var all [8]*Visitors
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() {
			v, err := LoadVisitors(path)
			if err != nil {
				t.Error(err)
			}
			all[i] = v
		})
	}
	group.Wait()
	for _, v := range all {
		if v != nil && hex.EncodeToString(v.keys[0]) != hex.EncodeToString(all[0].keys[0]) {
			t.Error("two keys are in use")
		}
	}
	if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

func TestAKeyFileThatIsNoneIsRefusedInPlainWords(t *testing.T) {
	for text, want := range map[string]string{"": "holds no key", "abcd\n": "is not a key of 32 bytes", "zz" + strings.Repeat("ab", 31): "is not a key"} {
		path := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadVisitors(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := LoadVisitors(filepath.Join(t.TempDir(), "no", "folder")); err == nil {
		t.Error("a missing folder is no error")
	}
}

func TestExplainAndServingAgree(t *testing.T) {
	s := splitSite(t, 50)
	for n := range 30 {
		change := as(fmt.Sprintf("203.0.113.%d", n), "")
		answered := s.get(t, "a.test", "/", change)
		imagined, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a.test/", nil)
		imagined.RemoteAddr = "127.0.0.1:1"
		change(imagined)
		if d := s.handler.Decide(imagined); d.Version != answered.body {
			t.Errorf("visitor %d: explained %s, served %s", n, d.Version, answered.body)
		}
	}
}

func FuzzWithoutTheCookieTheRestIsAsItWas(f *testing.F) {
	for _, seed := range []string{"", "a=1", "a=1; b=2", ";;", CookieName, CookieName + "=x;" + CookieName, CookieName + "\r", CookieName + " =x; b=2", "a=\"" + CookieName + "\""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r := &http.Request{Header: http.Header{"Cookie": {line}}}
		var want []string
		for _, c := range r.Cookies() {
			if c.Name != CookieName {
				want = append(want, c.String())
			}
		}
		removeVisitorCookie(r.Header)
		var got []string
		for _, c := range r.Cookies() {
			got = append(got, c.String())
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	})
}

func FuzzACookieIsReadBackAsItWasIssued(f *testing.F) {
	v := &Visitors{keys: [][]byte{make([]byte, 32)}}
	f.Add([]byte("0123456789abcdef"), "a.test", "b.test")
	f.Add([]byte{}, "", "x")
	f.Fuzz(func(t *testing.T, raw []byte, host, other string) {
		var visitor rules.Visitor
		copy(visitor.ID[:], raw)
		value := v.cookie(host, visitor, true).Value
		if id, ok := v.parse(value, host); !ok || id != visitor.ID {
			t.Errorf("%x for %q is not read back", visitor.ID, host)
		}
		if _, ok := v.parse(value, other); ok && other != host {
			t.Errorf("a cookie of %q is accepted for %q", host, other)
		}
	})
}
