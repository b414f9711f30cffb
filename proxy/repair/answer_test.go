package repair

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"cutover/rules"
)

// spelling is what an answer says, and what the visitor is to see.
type spelling struct{ said, want string }

const same = "as it was"

// expect holds a header's repairs against a table.
func expect(t *testing.T, p *Plan, v *Visit, name string, list []spelling) {
	t.Helper()
	for _, s := range list {
		header := http.Header{name: {s.said}}
		p.Answer(header, v)
		want := s.want
		if want == same {
			want = s.said
		}
		if got := header.Get(name); got != want {
			t.Errorf("%s: %s\n  becomes %s\n  want    %s", name, s.said, got, want)
		}
	}
}

func TestURLsOfTheUpstreamsOwnHostsBecomeTheVisitors(t *testing.T) {
	p := valid(t, rules.Repair{Host: "legacy.internal:8080", OwnHosts: "old.example.com,[2001:db8::1]:81"})
	list := []spelling{
		{"http://old.example.com/a", "https://shop.example.com/a"},
		{"https://old.example.com/a?b=http://old.example.com/#c", "https://shop.example.com/a?b=http://old.example.com/#c"},
		{"HTTP://OLD.Example.COM./a", "https://shop.example.com/a"},
		{"http://old.example.com", "https://shop.example.com"},
		{"http://old.example.com?x", "https://shop.example.com?x"},
		{"http://old.example.com#x", "https://shop.example.com#x"},
		{"http://old.example.com:80/a", "https://shop.example.com/a"},
		{"https://old.example.com:443/a", "https://shop.example.com/a"},
		{"http://old.example.com:/a", "https://shop.example.com/a"},
		{"//old.example.com/a", "//shop.example.com/a"},
		{"http://legacy.internal:8080/a", "https://shop.example.com/a"},
		{"https://legacy.internal:8080/a", "https://shop.example.com/a"},
		{"http://[2001:DB8:0::1]:81/a", "https://shop.example.com/a"},
		{"http://old.example.com/a b/%zz/\u00fc", "https://shop.example.com/a b/%zz/\u00fc"},
		{"http://old.example.com//evil.test/", "https://shop.example.com//evil.test/"},
		{`http://old.example.com/\evil.test/`, `https://shop.example.com/\evil.test/`},
		{"http://127.0.0.1:9001/a", "https://shop.example.com/a"},

		{"http://old.example.com:8080/a", same},
		{"http://legacy.internal/a", same},
		{"http://sub.old.example.com/a", same},
		{"http://old.example.com.evil.test/", same},
		{"http://old.example.com@evil.test/", same},
		{"http://user:pw@old.example.com/", same},
		{`http://old.example.com\@evil.test/`, same},
		{"http://old.example.com:80:80/", same},
		{"http://old.example.com%2eevil.test/", same},
		{"http:///old.example.com/", same},
		{"http:/old.example.com/", same},
		{"http:old.example.com/", same},
		{"ftp://old.example.com/", same},
		{" http://old.example.com/", same},
		{"http://old.example.com/\t", same},
		{"ht\ttp://old.example.com/", same},
		{"/a", same},
		{"a", same},
		{"../a", same},
		{"?a", same},
		{"#a", same},
		{"", same},
		{"//", same},
		{"http://", same},
		{"https://shop.example.com/a", same},
		{"http://shop.example.com/a", same},
		{"https://elsewhere.test/a", same},
	}
	expect(t, p, visit(t, p, "/x"), "Location", list)
	expect(t, p, visit(t, p, "/x"), "Content-Location", list)
	for _, name := range []string{"Link", "X-Location"} {
		expect(t, p, visit(t, p, "/x"), name, []spelling{{"http://old.example.com/a", same}})
	}
}

func TestThePortIsTheOneThatTheVisitorSees(t *testing.T) {
	p := valid(t, rules.Repair{OwnHosts: "old.example.com", StripPrefix: "/shop"})
	v := visit(t, p, "/shop/x")
	v.Scheme, v.Authority = "http", "shop.example.com:8080"
	expect(t, p, v, "Location", []spelling{
		{"https://old.example.com/a", "http://shop.example.com:8080/shop/a"},
		{"http://shop.example.com:8080/a", "http://shop.example.com:8080/shop/a"},
		{"http://shop.example.com/a", same},
		{"https://shop.example.com/a", same},
	})
	v.Host, v.Authority = "2001:db8::5", "[2001:db8::5]:8080"
	expect(t, p, v, "Location", []spelling{
		{"https://old.example.com/a", "http://[2001:db8::5]:8080/shop/a"},
		{"http://[2001:db8:0::5]:8080/a", "http://[2001:db8:0::5]:8080/shop/a"},
	})
}

func TestTheVisitorsOwnHostGetsHisSchemeOnlyIfItIsAnOwnHost(t *testing.T) {
	p := valid(t, rules.Repair{OwnHosts: "shop.example.com"})
	expect(t, p, visit(t, p, "/"), "Location", []spelling{{"http://shop.example.com/a", "https://shop.example.com/a"}})
}

func TestPathsOfAnswersAreWhatTheVisitorWouldAskFor(t *testing.T) {
	p := valid(t, rules.Repair{OwnHosts: "old.example.com", StripPrefix: "/shop"})
	expect(t, p, visit(t, p, "/shop/x"), "Location", []spelling{
		{"/a%2Fb?c=/d#e", "/shop/a%2Fb?c=/d#e"},
		{"/", "/shop/"},
		{"/?a", "/shop/?a"},
		{"http://old.example.com/a", "https://shop.example.com/shop/a"},
		{"http://old.example.com", "https://shop.example.com/shop"},
		{"http://shop.example.com/a", "http://shop.example.com/shop/a"},
		{"https://shop.example.com:443/a", "https://shop.example.com:443/shop/a"},
		{"//shop.example.com/a", "//shop.example.com/shop/a"},
		{"/shopping", "/shop/shopping"},
		{"/shop", same},
		{"/shop/a", same}, // the target heeds X-Forwarded-Prefix
		{"http://old.example.com/shop/a", "https://shop.example.com/shop/a"},
		{"//evil.test/a", same},
		{`/\evil.test/a`, same},
		{"/\t/evil.test", same},
		{"a", same},
		{"./a", same},
		{"?a", same},
		{"https://elsewhere.test/a", same},
	})
	expect(t, p, visit(t, p, "/other"), "Location", []spelling{{"/a", same}, {"http://old.example.com/a", "https://shop.example.com/a"}}) // nothing was taken off

	p = valid(t, rules.Repair{AddPrefix: "/app"})
	expect(t, p, visit(t, p, "/x"), "Location", []spelling{
		{"/app/a?b", "/a?b"},
		{"/app", "/"},
		{"/app/", "/"},
		{"/app?b", "/?b"},
		{"https://shop.example.com/app/a", "https://shop.example.com/a"},
		{"/a", same},
		{"/application", same},
		{"/app//evil.test/", same},
		{`/app/\evil.test/`, same}, // they would lead to another host
		{"http://127.0.0.1:9001/app//evil.test/", "https://shop.example.com//evil.test/"},
	})

	p = valid(t, rules.Repair{StripPrefix: "/shop", AddPrefix: "/shop/app"})
	expect(t, p, visit(t, p, "/shop/x"), "Location", []spelling{
		{"/shop/app/a", "/shop/a"}, {"/shop/app", "/shop"}, {"/shop/shop/app/a", "/shop/a"}, {"/shop/a", same}, {"/a", same},
	})
}

func TestTheTargetsOwnAddressIsReplacedWhereThePublicCannotReachIt(t *testing.T) {
	var p *Plan
	for _, c := range []struct{ target, said, want string }{
		{"http://127.0.0.1:9001", "http://127.0.0.1:9001/a", "https://shop.example.com/a"},
		{"http://127.0.0.1:9001", "http://localhost:9001/a", "https://shop.example.com/a"},
		{"http://localhost:9001", "http://[::1]:9001/a", "https://shop.example.com/a"},
		{"http://[::1]:9001", "http://[::1]:9001/a", "https://shop.example.com/a"},
		{"h2c://10.1.2.3:80", "http://10.1.2.3/a", "https://shop.example.com/a"},
		{"https://192.168.1.1", "https://192.168.1.1/a", "https://shop.example.com/a"},
		{"http://100.64.0.1:8080", "http://100.64.0.1:8080/a", "https://shop.example.com/a"},
		{"http://127.0.0.1:9001", "http://127.0.0.1:9002/a", same},
		{"http://127.0.0.1:9001", "https://127.0.0.1/a", same},
		{"http://127.0.0.1:9001", "/a", same},
		{"http://198.51.100.7:80", "http://198.51.100.7/a", same},
		{"https://v2.example.com", "https://v2.example.com/a", same},
		{"dns+http://v2.internal:8080", "http://v2.internal:8080/a", same},
		{"fcgi://127.0.0.1:9000", "http://127.0.0.1:9000/a", same},
		{"unix:/run/app.sock", "http://127.0.0.1/a", same},
		{"", "http://127.0.0.1/a", same},
	} {
		v := visit(t, p, "/")
		v.Target = c.target
		expect(t, p, v, "Location", []spelling{{c.said, c.want}})
	}
}

func TestAPublicTargetsAddressIsReplacedWhereTheRowSpeaksOfPlaces(t *testing.T) {
	for _, row := range []rules.Repair{{Host: "x.test"}, {OwnHosts: "x.test"}, {StripPrefix: "/x"}, {AddPrefix: "/x"}} {
		p := valid(t, row)
		v := visit(t, p, "/")
		v.Target = "https://v2.example.com"
		expect(t, p, v, "Location", []spelling{{"https://v2.example.com/a", "https://shop.example.com/a"}})
		v.Target = "dns+http://v2.internal:8080"
		expect(t, p, v, "Location", []spelling{{"http://v2.internal:8080/a", "https://shop.example.com/a"}})
	}
	p := valid(t, rules.Repair{CookiePrefix: "x"})
	v := visit(t, p, "/")
	v.Target = "https://v2.example.com"
	expect(t, p, v, "Location", []spelling{{"https://v2.example.com/a", same}})
}

func TestRefreshIsRepairedInEverySpellingOfBrowsers(t *testing.T) {
	p := valid(t, rules.Repair{OwnHosts: "old.example.com", StripPrefix: "/shop"})
	expect(t, p, visit(t, p, "/shop/x"), "Refresh", []spelling{
		{"5; url=http://old.example.com/a", "5; url=https://shop.example.com/shop/a"},
		{"5;URL=/a", "5;URL=/shop/a"},
		{"0;Url = /a", "0;Url = /shop/a"},
		{`5; url="/a"`, `5; url="/shop/a"`},
		{"5; url='/a'", "5; url='/shop/a'"},
		{"5; url='/a", "5; url='/shop/a"},
		{"5; url='/a' rest", "5; url='/shop/a' rest"},
		{"5;url=/a'b", "5;url=/shop/a'b"},
		{"5, url=/a", "5, url=/shop/a"},
		{"5 url=/a", "5 url=/shop/a"},
		{"5 /a", "5 /shop/a"},
		{"5; /a", "5; /shop/a"},
		{"5;'/a'", "5;'/shop/a'"},
		{" 1.5;\turl=/a", " 1.5;\turl=/shop/a"},
		{"5", same},
		{"5;", same},
		{"5; url=", same},
		{"5; url=a", same},
		{"5; url=''", same},
		{"", same},
		{"x; url=/a", same},
		{"5x; url=/a", same},
		{"5; url=https://elsewhere.test/a", same},
		{"5; url=javascript:x", same},
		{"5; url=//evil.test", same},
		{"5; url", same},
		{"; url=/a", same},
	})
}

func TestEveryLineOfAHeaderIsRepaired(t *testing.T) {
	p := valid(t, rules.Repair{StripPrefix: "/shop", CookiePrefix: "a_"})
	header := http.Header{"Location": {"/a", "/b"}, "Refresh": {"1;/a", "2;/b"}, "Set-Cookie": {"x=1", "y=2"}}
	p.Answer(header, visit(t, p, "/shop/"))
	if want := "map[Location:[/shop/a /shop/b] Refresh:[1;/shop/a 2;/shop/b] Set-Cookie:[a_x=1 a_y=2]]"; fmt.Sprint(header) != want {
		t.Errorf("got %v, want %s", header, want)
	}
}

// authorityOf returns the authority that a browser would ask when it follows a reference from the visitor's https page: it leaves
// control characters out, takes a backslash for a slash, and several slashes for two (URL standard, special schemes).
func authorityOf(reference string) string {
	reference = strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(strings.TrimFunc(reference, func(c rune) bool { return c <= ' ' }))
	scheme, rest, ok := strings.Cut(reference, ":")
	switch scheme = strings.ToLower(scheme); {
	case ok && scheme == "http", ok && scheme == "https" && strings.HasPrefix(rest, "//"):
		reference = "//" + rest
	case ok && !strings.ContainsAny(scheme, "/?#"):
		return scheme + ":"
	}
	if !strings.HasPrefix(reference, "//") {
		return "shop.example.com"
	}
	reference = strings.TrimLeft(reference, "/")
	if end := strings.IndexAny(reference, "/?#"); end >= 0 {
		reference = reference[:end]
	}
	return strings.ToLower(reference)
}

func FuzzARepairedURLLeadsToTheVisitorsHostOrIsAsItWas(f *testing.F) {
	for _, seed := range []string{"http://old.example.com/a", "/a", "//old.example.com", "/app//evil.test", `/app/\evil.test`, "/app/\t/evil.test", "http://old.example.com@evil.test/", "http://127.0.0.1:9001", "https://shop.example.com/shop/x?y#z", "/app", "", "http://old.example.com\r\nX: y"} {
		for _, shape := range []uint8{0, 1, 2, 3} {
			f.Add(seed, shape, false)
			f.Add(seed, shape, true)
		}
	}
	f.Fuzz(func(t *testing.T, text string, shape uint8, refresh bool) {
		row := rules.Repair{OwnHosts: "old.example.com"}
		if shape&1 > 0 {
			row.StripPrefix = "/shop"
		}
		if shape&2 > 0 {
			row.AddPrefix = "/app"
		}
		p := valid(t, row)
		v := visit(t, p, "/shop/x")
		said, name := text, "Location"
		if refresh {
			said, name = "0;url="+text, "Refresh"
		}
		header := http.Header{name: {said}}
		p.Answer(header, v)
		got := header.Get(name)
		if len(header) != 1 || len(header[name]) != 1 || strings.Count(got, "\n") != strings.Count(said, "\n") || strings.Count(got, "\r") != strings.Count(said, "\r") {
			t.Fatalf("%q becomes %q", said, header)
		}
		if got == said {
			return
		}
		link := got
		if refresh {
			link, _ = unquote(strings.TrimLeft(strings.TrimPrefix(got, "0;url="), " \t"))
		}
		if named, err := rules.ParseAuthority(authorityOf(link)); err != nil || named.Host != "shop.example.com" {
			t.Errorf("%q becomes %q, which leads to %q", said, got, authorityOf(link))
		}
	})
}
