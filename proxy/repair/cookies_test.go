package repair

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cutover/rules"
)

func TestTheDomainOfAnOwnHostIsRemovedOrBecomesTheOneOfTheRow(t *testing.T) {
	own := rules.Repair{Host: "legacy.internal:8080", OwnHosts: "www.old.example.org,intranet.example.com"}
	p := valid(t, own)
	expect(t, p, visit(t, p, "/"), "Set-Cookie", []spelling{
		{"a=b; Domain=legacy.internal; Path=/", "a=b; Path=/"},
		{"a=b; domain=.LEGACY.internal;Path=/", "a=b;Path=/"},
		{"a=b;DOMAIN = www.old.example.org ", "a=b"},
		{"a=b; Domain=old.example.org", "a=b"},
		{"a=b; Domain=.example.org", "a=b"},
		{"a=b; Domain=intranet.example.com", "a=b"},
		{"a=b; Domain=old.example.org; Domain=legacy.internal", "a=b"},

		{"a=b; Domain=example.com", same}, // above the visitor's, too
		{"a=b; Domain=shop.example.com", same},
		{"a=b; Domain=elsewhere.test", same},
		{"a=b; Domain=ld.example.org", same},
		{"a=b; Domain=x.www.old.example.org", same},
		{"a=b; Domain=", same},
		{"a=b; Domain", same},
		{"a=b; Domain=.", same},
		{"a=b", same},
	})
	own.CookieDomain = "Example.com"
	p = valid(t, own)
	expect(t, p, visit(t, p, "/"), "Set-Cookie", []spelling{
		{"a=b; Domain=legacy.internal; Path=/", "a=b; Domain=Example.com; Path=/"},
		{"a=b; domain=.example.org ; Secure", "a=b; domain=Example.com; Secure"},
		{"__Host-a=b; Domain=legacy.internal; Path=/; Secure", "__Host-a=b; Path=/; Secure"},
		{"__Secure-a=b; Domain=legacy.internal; Secure", "__Secure-a=b; Domain=Example.com; Secure"},
		{"a=b; Domain=elsewhere.test", same},
		{"a=b", same},
	})
	elsewhere := visit(t, p, "/")
	elsewhere.Host = "shop.example.net" // whose browser would take no cookie of example.com
	expect(t, p, elsewhere, "Set-Cookie", []spelling{{"a=b; Domain=legacy.internal; Path=/", "a=b; Path=/"}})
}

func TestThePathOfACookieIsWhereTheVisitorSeesTheUpstream(t *testing.T) {
	p := valid(t, rules.Repair{StripPrefix: "/shop"})
	expect(t, p, visit(t, p, "/shop/x/y"), "Set-Cookie", []spelling{
		{"a=b; Path=/", "a=b; Path=/shop"},
		{"a=b; path = /c ;Secure", "a=b; path =/shop/c;Secure"},
		{"a=b; Path=/c/", "a=b; Path=/shop/c/"},
		{"a=b; Path=/; Path=/c", "a=b; Path=/shop; Path=/shop/c"},
		{"__Secure-a=b; Secure; Path=/", "__Secure-a=b; Secure; Path=/shop"},
		{"a=b; Path=/shop", same},
		{"a=b; Path=/shop/c", same},
		{"a=b; Path=/shop/", same},
		{"a=b; Path=c", same},
		{`a=b; Path="/"`, same},
		{"a=b; Path=", same},
		{"a=b; Path", same},
		{"a=b", same},
		{"__Host-a=b; Path=/; Secure", same},
		{"__host-a=b; Path=/; Secure", same},
		{"__Host-Http-a=b; Path=/; Secure; HttpOnly", same},
	})
	expect(t, p, visit(t, p, "/other"), "Set-Cookie", []spelling{{"a=b; Path=/", same}, {"a=b", same}})
	// Of /shop, a browser would make the path /, since for the visitor that is a file in the root.
	expect(t, p, visit(t, p, "/shop"), "Set-Cookie", []spelling{{"a=b", "a=b; Path=/shop"}, {"a=b; Path=c", "a=b; Path=c; Path=/shop"}, {"__Host-a=b", same}})
	expect(t, p, visit(t, p, "/shop/"), "Set-Cookie", []spelling{{"a=b", same}})

	p = valid(t, rules.Repair{AddPrefix: "/site/app"})
	expect(t, p, visit(t, p, "/x/y"), "Set-Cookie", []spelling{
		{"a=b; Path=/site/app", "a=b; Path=/"},
		{"a=b; Path=/site/app/", "a=b; Path=/"},
		{"a=b; Path=/site", "a=b; Path=/"},
		{"a=b; Path=/site/app/c", "a=b; Path=/c"},
		{"a=b; Path=/", same},
		{"a=b; Path=/elsewhere", same},
		{"a=b; Path=/site/application", same},
		{"a=b", same},
	})
	expect(t, p, visit(t, p, "/"), "Set-Cookie", []spelling{{"a=b", same}})

	p = valid(t, rules.Repair{StripPrefix: "/shop", AddPrefix: "/app"})
	expect(t, p, visit(t, p, "/shop/x"), "Set-Cookie", []spelling{
		{"a=b; Path=/", "a=b; Path=/shop"}, {"a=b; Path=/app", "a=b; Path=/shop"}, {"a=b; Path=/app/c", "a=b; Path=/shop/c"}, {"a=b; Path=/c", same}, {"a=b", same},
	})
	expect(t, p, visit(t, p, "/other/x"), "Set-Cookie", []spelling{{"a=b; Path=/app", "a=b; Path=/"}, {"a=b", same}})
}

func TestAPathThatIsAddedBringsNoAttributeOfTheVisitorsChoice(t *testing.T) {
	p := valid(t, rules.Repair{StripPrefix: "/shop", AddPrefix: "/app"})
	v := visit(t, p, "/shop")
	v.Paths.Target = "/app/x;Domain=evil.test/y"
	expect(t, p, v, "Set-Cookie", []spelling{{"a=b", same}})
}

func TestNamesGetThePrefixBehindWhatBrowsersHoldToRules(t *testing.T) {
	p := valid(t, rules.Repair{CookiePrefix: "v1_"})
	expect(t, p, visit(t, p, "/"), "Set-Cookie", []spelling{
		{"a=b", "v1_a=b"},
		{"  a = b ; Path=/", "  v1_a = b ; Path=/"},
		{"a=", "v1_a="},
		{"a=a=a; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Partitioned; Priority=High; SameSite=None; x", "v1_a=a=a; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Partitioned; Priority=High; SameSite=None; x"},
		{`a="b c"; Domain=x.test;;`, `v1_a="b c"; Domain=x.test;;`},
		{"v1_a=b", "v1_v1_a=b"},
		{"__Host-a=b; Path=/; Secure", "__Host-v1_a=b; Path=/; Secure"},
		{"__secure-a=b; Secure", "__secure-v1_a=b; Secure"},
		{"__Host-Http-a=b; Secure", "__Host-Http-v1_a=b; Secure"},
		{"__Http-a=b; Secure", "__Http-v1_a=b; Secure"},
		{"=b", same},
		{"b", same},
		{"", same},
		{" ; Path=/", same},
	})
	p = valid(t, rules.Repair{CookiePrefix: "Http-"})
	expect(t, p, visit(t, p, "/"), "Set-Cookie", []spelling{{"__Host-a=b", same}, {"a=b", "Http-a=b"}}) // __Host-Http-a is held to other rules
}

func TestTheUpstreamGetsItsCookiesUnderItsOwnNames(t *testing.T) {
	p := valid(t, rules.Repair{CookiePrefix: "v1_"})
	for _, c := range []struct{ said, want []string }{
		{nil, nil},
		{[]string{"a=1; b=2"}, []string{"a=1; b=2"}},
		{[]string{"v1_a=1"}, []string{"a=1"}},
		{[]string{"a=0; v1_a=1; b=2"}, []string{"a=1; b=2"}},
		{[]string{"v1_a=1;a=0;b = 2 ;v1_b=3"}, []string{"a=1;b=3"}},
		{[]string{"v1_a=1; v1_a=2"}, []string{"a=1; a=2"}},
		{[]string{"a=0", "v1_a=1", "a=2; c=3"}, []string{"a=1", "c=3"}},
		{[]string{"v1_v1_a=1; v1_a=2"}, []string{"v1_a=1; a=2"}},
		{[]string{"__Host-v1_a=1; __Host-a=0; __Secure-v1_b=2"}, []string{"__Host-a=1; __Secure-b=2"}},
		{[]string{"v1___Host-a=1; __Host-v1_b=2"}, []string{"v1___Host-a=1; __Host-b=2"}}, // a neighbour could have set it
		{[]string{"v1___secure-a=1"}, []string{"v1___secure-a=1"}},
		{[]string{"__Host-v1_Http-a=1"}, []string{"__Host-v1_Http-a=1"}},
		{[]string{"v1_=1; v1_; =v1_x; v1_a"}, []string{"v1_=1; v1_; =v1_x; v1_a"}},
		{[]string{`v1_a="x y"; ;; b`}, []string{`a="x y"; ;; b`}},
	} {
		header := http.Header{}
		if c.said != nil {
			header["Cookie"] = c.said
		}
		was := fmt.Sprintf("%q", c.said)
		p.Request(&http.Request{Header: header}, Paths{})
		if got := fmt.Sprintf("%q", header["Cookie"]); got != fmt.Sprintf("%q", c.want) {
			t.Errorf("%s becomes %s, want %q", was, got, c.want)
		}
	}
}

func FuzzACookieStaysOneCookieThatTheUpstreamGetsBack(f *testing.F) {
	for _, seed := range []string{
		"a=b", "a=b; Path=/; Domain=old.example.com; Secure", "__Host-a=b; Path=/", "a=b; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Partitioned", "=b", "b", "", ";;", "a=b; Path=/x;Path",
		" a =b;domain= .OLD.example.com ; path = /app/x", "v1___Host-a=b",
	} {
		f.Add(seed, "/shop/x")
		f.Add(seed, "/shop")
	}
	f.Fuzz(func(t *testing.T, line, path string) {
		p := valid(t, rules.Repair{OwnHosts: "old.example.com", StripPrefix: "/shop", AddPrefix: "/app", CookiePrefix: "v1_", CookieDomain: "example.com"})
		paths, err := p.Paths(path)
		if err != nil {
			return
		}
		v := &Visit{Scheme: "https", Host: "shop.example.com", Authority: "shop.example.com", Paths: paths}
		header := http.Header{"Set-Cookie": {line}}
		p.Answer(header, v)
		got := header["Set-Cookie"]
		if len(header) != 1 || len(got) != 1 {
			t.Fatalf("%q becomes %q", line, header)
		}
		for _, c := range []string{"\r", "\n", "\x00"} {
			if strings.Count(got[0], c) > strings.Count(line, c) {
				t.Fatalf("%q becomes %q", line, got)
			}
		}
		before, after := (&http.Response{Header: http.Header{"Set-Cookie": {line}}}).Cookies(), (&http.Response{Header: header}).Cookies()
		if len(before) != len(after) {
			t.Fatalf("%q becomes %q: %v, %v", line, got, before, after)
		}
		if len(before) == 0 {
			return
		}
		was, is := before[0], after[0]
		if was.Value != is.Value || was.Secure != is.Secure || was.HttpOnly != is.HttpOnly || was.MaxAge != is.MaxAge || was.RawExpires != is.RawExpires || was.SameSite != is.SameSite {
			t.Errorf("%q becomes %q", line, got)
		}
		back := http.Header{"Cookie": {is.Name + "=" + is.Value}}
		p.Request(&http.Request{Header: back}, paths)
		if name, _, _ := strings.Cut(back.Get("Cookie"), "="); name != was.Name {
			t.Errorf("%q is set as %q and comes back as %q", was.Name, is.Name, name)
		}
	})
}
