package rules

import (
	"net/http"
	"strings"
	"testing"
)

const tokenPath = "/.well-known/acme-challenge/LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"

func TestAChallengeThatIsNotOursGoesToTheHostsV1WhateverRulesAndRedirectsSay(t *testing.T) {
	rows := rowsOf(
		rule(1, "shop.example.com", func(r *Rule) { r.Percent, r.V1 = 100, "old" }),
		rule(2, "*.example.org", func(r *Rule) { r.Percent, r.V1 = 50, "old" }),
		rule(3, "part.example.com", func(r *Rule) { r.Path, r.V1 = "/a", "old" }),
		rule(4, "moved.example.com", func(r *Rule) { r.Path, r.V1 = "/a", "old" }),
	)
	rows.Upstreams = append(rows.Upstreams, Upstream{Name: "old"})
	rows.Redirects = []Redirect{redirect(1, "moved.example.com", "/", "https://new.example.com/", nil)}
	rows.Hosts = []Host{{Host: "own.example.com", HTTPS: HTTPSRedirect, Needs: 1}}
	rows.Default = DefaultRefuse
	view := compile(t, rows)
	for host, want := range map[string]string{
		"shop.example.com": "old", "www.example.org": "old", "part.example.com": V1, "moved.example.com": V1, "own.example.com": V1,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			r := ask(host, tokenPath)
			r.Method = method
			d, ok := view.MatchChallenge(r)
			if !ok || d.Action != Forward || d.Version != V1 || d.Upstream != want || d.Reason != ReasonChallenge || d.Split() || d.HTTPS != HTTPSOff {
				t.Errorf("%s %s: %+v, want the upstream %s", method, host, d, want)
			}
		}
	}
	for _, host := range []string{"stranger.test", "example.org", "a.b.example.org", ""} {
		if _, ok := view.MatchChallenge(ask(host, tokenPath)); ok {
			t.Errorf("%q is known", host)
		}
	}
	if _, ok := (*View)(nil).MatchChallenge(ask("shop.example.com", tokenPath)); ok {
		t.Error("without rules a host is known")
	}
}

func TestNothingButACAsRequestPassesRulesBy(t *testing.T) {
	view := compile(t, rowsOf(rule(1, "*", nil)))
	if _, ok := view.MatchChallenge(ask("any.test", tokenPath)); !ok {
		t.Fatal("a rule for every host knows none")
	}
	for name, spoil := range map[string]func(*Request){
		"a POST":        func(r *Request) { r.Method = http.MethodPost },
		"a query":       func(r *Request) { r.RawQuery = "x" },
		"no token":      func(r *Request) { r.Path = challengePath },
		"a deeper path": func(r *Request) { r.Path += "/x" },
		"dots":          func(r *Request) { r.Path = challengePath + ".." },
		"an escape":     func(r *Request) { r.Path = challengePath + "%2e" },
		"another path":  func(r *Request) { r.Path = "/x" + tokenPath },
		"a long token":  func(r *Request) { r.Path = challengePath + strings.Repeat("x", 129) },
		"letters":       func(r *Request) { r.Path = challengePath + "ä" },
	} {
		r := ask("any.test", tokenPath)
		spoil(r)
		if _, ok := view.MatchChallenge(r); ok {
			t.Errorf("%s passes", name)
		}
	}
}

func TestOtherRequestsPayNothingForIt(t *testing.T) {
	view := compile(t, rowsOf(rule(1, "shop.example.com", nil)))
	r := ask("shop.example.com", "/a/b/c")
	if n := testing.AllocsPerRun(100, func() { view.MatchChallenge(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
