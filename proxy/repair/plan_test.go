package repair

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"cutover/rules"
)

// visit is what a visitor of shop.example.com asked an upstream at 127.0.0.1:9001, which may have another path.
func visit(t testing.TB, p *Plan, path string) *Visit {
	t.Helper()
	paths, err := p.Paths(path)
	if err != nil {
		t.Fatal(err)
	}
	return &Visit{Scheme: "https", Host: "shop.example.com", Authority: "shop.example.com", Target: "http://127.0.0.1:9001", Paths: paths}
}

func valid(t testing.TB, row rules.Repair) *Plan {
	t.Helper()
	if err := rules.ValidateRepair(&row); err != nil {
		t.Fatal(err)
	}
	return New(&row)
}

func TestPrefixesChangeOnTheBordersOfSegmentsByteForByte(t *testing.T) {
	strip, add := rules.Repair{StripPrefix: "/shop"}, rules.Repair{AddPrefix: "/app"}
	both := rules.Repair{StripPrefix: "/shop", AddPrefix: "/app"}
	for _, c := range []struct {
		row        rules.Repair
		path, want string
	}{
		{strip, "/shop", "/"},
		{strip, "/shop/", "/"},
		{strip, "/shop/a%2Fb", "/a%2Fb"},
		{strip, "/shop/a%2fb;x=1//c|d", "/a%2fb;x=1//c|d"},
		{strip, "/shop//a", "//a"},
		{strip, "/shopping", "/shopping"},
		{strip, "/shop%2Fa", "/shop%2Fa"},
		{strip, "/Shop/a", "/Shop/a"},
		{strip, "/other", "/other"},
		{strip, "/", "/"},
		{strip, "*", "*"},
		{strip, "", "/"},
		{strip, "/shop/../admin", "/shop/../admin"}, // for visitors that is /admin
		{strip, "/shop/a/../b", "/a/../b"},
		{add, "/", "/app/"},
		{add, "/a%2Fb", "/app/a%2Fb"},
		{add, "//a", "/app//a"},
		{add, "/a/../b", "/app/a/../b"},
		{add, "*", "*"},
		{both, "/shop", "/app/"},
		{both, "/shop/a", "/app/a"},
		{both, "/other", "/app/other"},
		{rules.Repair{Host: "x"}, "/a", "/a"},
		{rules.Repair{}, "/a", "/a"},
	} {
		paths, err := valid(t, c.row).Paths(c.path)
		if err != nil || paths.Target != c.want || paths.Visitor != orRoot(c.path) {
			t.Errorf("%+v: %s becomes %+v, %v; want %s", c.row, c.path, paths, err, c.want)
		}
	}
}

func TestNoPathLeadsOutOfThePrefixThatIsPutBeforeIt(t *testing.T) {
	p := valid(t, rules.Repair{StripPrefix: "/shop", AddPrefix: "/tenant1"})
	for _, path := range []string{"/../tenant2", "/%2e%2e/tenant2", "/..%2ftenant2", `/..\tenant2`, "/..;/tenant2", "/shop/../../tenant2", "//../tenant2"} {
		if paths, err := p.Paths(path); !errors.Is(err, ErrClimbs) {
			t.Errorf("%s becomes %s", path, paths.Target)
		}
	}
}

// asked returns a request as the target of a plan gets it.
func asked(t *testing.T, p *Plan, path string, header http.Header) *http.Request {
	t.Helper()
	r := &http.Request{Host: "shop.example.com", Header: header}
	p.Request(r, visit(t, p, path).Paths)
	return r
}

func TestTheTargetIsAskedForItsOwnHost(t *testing.T) {
	if r := asked(t, valid(t, rules.Repair{Host: "legacy.internal:8080"}), "/", http.Header{}); r.Host != "legacy.internal:8080" {
		t.Errorf("host %q", r.Host)
	}
	for _, p := range []*Plan{nil, valid(t, rules.Repair{StripPrefix: "/shop"})} {
		if r := asked(t, p, "/", http.Header{}); r.Host != "shop.example.com" {
			t.Errorf("host %q", r.Host)
		}
	}
}

func TestXForwardedPrefixSaysWhatWasTakenOffAfterWhatOthersTookOff(t *testing.T) {
	p := valid(t, rules.Repair{StripPrefix: "/shop", AddPrefix: "/app"})
	for _, c := range []struct {
		path   string
		before []string
		want   string
	}{
		{"/shop/a", nil, "[/shop]"},
		{"/shop", nil, "[/shop]"},
		{"/other", nil, "[]"},
		{"/shopping", []string{"/outer"}, "[/outer]"},
		{"/shop/a", []string{"/outer"}, "[/outer/shop]"},
		{"/shop/a", []string{"/outer/"}, "[/outer/shop]"},
		{"/shop/a", []string{"/a, /b", "/c"}, "[/a/b/c/shop]"},
		{"/shop/a", []string{"/"}, "[/shop]"},
		{"/shop/a", []string{"nonsense"}, "[/shop]"},
	} {
		header := http.Header{}
		if c.before != nil {
			header["X-Forwarded-Prefix"] = c.before
		}
		if got := fmt.Sprint(asked(t, p, c.path, header).Header["X-Forwarded-Prefix"]); got != c.want {
			t.Errorf("%s after %v: %s, want %s", c.path, c.before, got, c.want)
		}
	}
}

func TestHeadersAreRemovedSetAndAddedInThisOrder(t *testing.T) {
	edits := `{"+X-One": "3", "X-Two": "set", "X-Three": null, "Authorization": "Basic eDp5", "+X-Two": "added", "X-Four": null, "+X-Four": "anew"}`
	p := valid(t, rules.Repair{RequestHeaders: edits, ResponseHeaders: edits})
	fresh := func() http.Header {
		return http.Header{"X-One": {"1", "2"}, "X-Two": {"a", "b"}, "X-Three": {"c"}, "X-Four": {"d"}, "X-Five": {"e"}}
	}
	want := "map[Authorization:[Basic eDp5] X-Five:[e] X-Four:[anew] X-One:[1 2 3] X-Two:[set added]]"
	if got := fmt.Sprint(asked(t, p, "/", fresh()).Header); got != want {
		t.Errorf("request: %s, want %s", got, want)
	}
	header := fresh()
	p.Answer(header, visit(t, p, "/"))
	if got := fmt.Sprint(header); got != want {
		t.Errorf("answer: %s, want %s", got, want)
	}
}

func TestAPlanIsMadeOnceForEachPointerAndForgottenWithIt(t *testing.T) {
	var plans Plans
	row := func() *rules.Upstream { return &rules.Upstream{Name: "v1", Repair: rules.Repair{Host: "a.test"}} }
	first, second, plain := row(), row(), &rules.Upstream{Repair: rules.DefaultUpstream().Repair}
	if plans.For(plain, []*rules.Upstream{plain}) != nil || plans.made.Load() != nil {
		t.Error("there is a plan for nothing")
	}
	all := []*rules.Upstream{first, plain, second}
	one, two := plans.For(first, all), plans.For(second, all)
	if one == nil || one == two || plans.For(first, all) != one || plans.For(second, all) != two {
		t.Errorf("plans %p and %p", one, two)
	}
	if n := testing.AllocsPerRun(100, func() { plans.For(first, all); plans.For(plain, all) }); n > 0 {
		t.Errorf("a plan that is there costs %g allocations", n)
	}
	third := row()
	plans.For(third, []*rules.Upstream{third, second})
	if known := *plans.made.Load(); len(known) != 2 || known[second] != two {
		t.Errorf("%d are known", len(known))
	}
}

func TestPlansMayBeAskedForAtOnce(t *testing.T) {
	var plans Plans
	all := make([]*rules.Upstream, 10)
	for i := range all {
		all[i] = &rules.Upstream{Repair: rules.Repair{Host: fmt.Sprintf("%d.test", i)}}
	}
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for range 100 {
				for _, u := range all {
					if p := plans.For(u, all); p.row.Host != u.Repair.Host {
						t.Errorf("the plan of %s is that of %s", u.Repair.Host, p.row.Host)
					}
				}
			}
		})
	}
	asking.Wait()
}

func TestAnAnswerThatNothingIsSaidOfCostsNothing(t *testing.T) {
	var p *Plan
	header := http.Header{"Content-Type": {"text/html"}, "Set-Cookie": {"a=b"}}
	if n := testing.AllocsPerRun(100, func() { p.Concerns(header) }); n > 0 || p.Concerns(header) {
		t.Errorf("%g allocations", n)
	}
	for _, name := range []string{"Location", "Content-Location", "Refresh"} {
		if !p.Concerns(http.Header{name: {"/"}}) {
			t.Errorf("%s is of no concern", name)
		}
	}
}

func TestADescriptionNamesWhatIsDone(t *testing.T) {
	p := valid(t, rules.Repair{
		Host: "legacy.internal", OwnHosts: "a.test,b.test:81,c.test", StripPrefix: "/shop", AddPrefix: "/app", CookieDomain: "example.com",
		CookiePrefix: "v1_", RequestHeaders: `{"A": "b"}`, ResponseHeaders: `{"A": null, "B": null}`,
	})
	want := "Host legacy.internal, path /app/x, a.test, b.test:81, c.test, 1 more in answers becomes https://shop.example.com, Domain of cookies example.com, cookies v1_NAME, 1 of request_headers, 2 of response_headers"
	if got := p.Describe(visit(t, p, "/shop/x")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var none *Plan
	if none.Describe(visit(t, none, "/")) != "" {
		t.Error("nothing is described")
	}
}
