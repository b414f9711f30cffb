package rules

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestTheMostSpecificEntryWins(t *testing.T) {
	with := func(id int64, host, path string, kind Kind, conditions string) Rule {
		return rule(id, host, func(r *Rule) { r.Path, r.Match, r.Conditions = path, kind, conditions })
	}
	rows := rowsOf(
		with(1, "*", "/", KindPrefix, "{}"),
		with(2, "*.example.com", "/", KindPrefix, "{}"),
		with(3, "shop.example.com", "/", KindPrefix, "{}"),
		with(4, "shop.example.com", "/a", KindPrefix, "{}"),
		with(5, "shop.example.com", "/a/b", KindPrefix, "{}"),
		with(6, "shop.example.com", "/a/b", KindExact, "{}"),
		with(7, "shop.example.com", "/a", KindPrefix, `{"methods":["POST"]}`),
		with(8, "shop.example.com", "/c", KindPrefix, `{"methods":["POST"],"headers":{"x":"1"}}`),
		with(9, "shop.example.com", "/c", KindPrefix, `{"methods":["POST"]}`),
	)
	rows.Redirects = []Redirect{redirect(1, "shop.example.com", "/a/b/c", "https://new.example.com/", nil)}
	rows.Rules = append(rows.Rules, with(10, "shop.example.com", "/a/b/c", KindPrefix, "{}"))
	view := compile(t, rows)
	for _, row := range []struct {
		name, host, path, method string
		rule, redirect           int64
	}{
		{"any host", "elsewhere.org", "/", "GET", 1, 0},
		{"wildcard before any", "blog.example.com", "/", "GET", 2, 0},
		{"a wildcard is one label", "a.b.example.com", "/", "GET", 1, 0},
		{"a wildcard is not its parent", "example.com", "/", "GET", 1, 0},
		{"exact host before wildcard", "shop.example.com", "/x", "GET", 3, 0},
		{"longest prefix", "shop.example.com", "/a/x", "GET", 4, 0},
		{"prefix itself", "shop.example.com", "/a", "GET", 4, 0},
		{"a prefix ends on a segment", "shop.example.com", "/ab", "GET", 3, 0},
		{"exact path before prefix", "shop.example.com", "/a/b", "GET", 6, 0},
		{"prefix below the exact path", "shop.example.com", "/a/b/", "GET", 5, 0},
		{"conditions before none", "shop.example.com", "/a/x", "POST", 7, 0},
		{"one that does not hold is passed over", "shop.example.com", "/c", "GET", 3, 0},
		{"fewer conditions when more do not hold", "shop.example.com", "/c", "POST", 9, 0},
		{"redirect before rule", "shop.example.com", "/a/b/c/d", "GET", 0, 1},
		{"escapes and dots", "shop.example.com", "/x/../%61/y", "GET", 4, 0},
		{"an escaped slash is no border", "shop.example.com", "/a%2Fx", "GET", 3, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			request := ask(row.host, row.path)
			request.Method = row.method
			if d := view.Match(request); d.RuleID != row.rule || d.RedirectID != row.redirect {
				t.Errorf("rule %d, redirect %d; want %d, %d", d.RuleID, d.RedirectID, row.rule, row.redirect)
			}
		})
	}
}

func TestEveryConditionIsAsked(t *testing.T) {
	view := compile(t, rowsOf(rule(1, "a.test", func(r *Rule) {
		r.Conditions = `{"headers":{"x-beta":"*"},"cookies":{"staff":"yes"},"query":{"v":"2"},"client_ips":["10.0.0.0/8","::1"]}`
	})))
	good := func() *Request {
		r := ask("a.test", "/")
		r.Header = http.Header{"X-Beta": {"anything"}, "Cookie": {"a=b; staff=yes"}}
		r.RawQuery, r.ClientIP = "v=2", netip.MustParseAddr("::ffff:10.1.2.3")
		return r
	}
	if d := view.Match(good()); d.RuleID != 1 || !d.VaryCookie {
		t.Fatalf("all hold: %+v", d)
	}
	for name, spoil := range map[string]func(*Request){
		"header": func(r *Request) { r.Header.Del("X-Beta") },
		"cookie": func(r *Request) { r.Header.Set("Cookie", "staff=no") },
		"query":  func(r *Request) { r.RawQuery = "v=3" },
		"client": func(r *Request) { r.ClientIP = netip.MustParseAddr("192.0.2.1") },
		"nobody": func(r *Request) { r.ClientIP = netip.Addr{} },
	} {
		r := good()
		spoil(r)
		if d := view.Match(r); d.RuleID != 0 {
			t.Errorf("%s: the rule matched", name)
		}
	}
}

func TestWithoutRulesEverythingGoesToV1OrIsRefused(t *testing.T) {
	for name, view := range map[string]*View{"nil": nil, "zero": {}, "empty": compile(t, Rows{})} {
		if d := view.Match(ask("a.test", "/")); d.Action != Forward || d.Upstream != V1 || d.Reason != ReasonDefault || d.Split() {
			t.Errorf("%s view: %+v", name, d)
		}
	}
	if d := compile(t, Rows{Default: DefaultRefuse}).Match(ask("a.test", "/")); d.Action != Misdirected || d.Status != 421 {
		t.Errorf("refuse: %+v", d)
	}
}

func TestAMatchAllocatesNothing(t *testing.T) {
	view := compile(t, rowsOf(rule(1, "shop.example.com", func(r *Rule) { r.Path = "/a" }), rule(2, "*.example.org", nil)))
	for _, r := range []*Request{ask("shop.example.com", "/a/b/c"), ask("x.example.org", "/"), ask("nobody.test", "/a/b")} {
		if n := testing.AllocsPerRun(100, func() { view.Match(r) }); n != 0 {
			t.Errorf("%s%s: %v allocations", r.Host, r.Path, n)
		}
	}
}

func TestAHostsPolicyComesWithEveryDecision(t *testing.T) {
	rows := rowsOf()
	rows.Hosts = []Host{{Host: "Shop.Example.com.", HTTPS: HTTPSRedirect, HSTS: 60, Needs: 1}}
	view := compile(t, rows)
	if d := view.Match(ask("shop.example.com", "/")); d.HTTPS != HTTPSRedirect || d.HSTS != 60 {
		t.Errorf("%+v", d)
	}
	if d := view.Match(ask("other.example.com", "/")); d.HTTPS != HTTPSOff || d.HSTS != 0 {
		t.Errorf("%+v", d)
	}
}

func BenchmarkMatchExactHost(b *testing.B) {
	view := compile(b, rowsOf(rule(1, "shop.example.com", nil)))
	r := ask("shop.example.com", "/a/b")
	for b.Loop() {
		view.Match(r)
	}
}
