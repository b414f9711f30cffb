package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

const someHash = "$2a$04$UuTkgh8Xo3P3R1NRhEXqAuJQCNBmRSVnUFSKBWDIBkhzJFJlAb7W2"

func guarded(t testing.TB, some ...GuardRow) *View {
	t.Helper()
	rows := rowsOf()
	rows.Guards = some
	return compile(t, rows)
}

func idOf(g *Guard) int64 {
	if g == nil {
		return 0
	}
	return g.ID
}

func TestTheMostSpecificGuardHoldsAlone(t *testing.T) {
	view := guarded(t,
		guard(1, "*", nil), guard(2, "*.B.test", func(r *GuardRow) { r.Path = "/x/" }), guard(3, "a.b.test", func(r *GuardRow) { r.Path = "/admin" }),
		guard(4, "a.b.test", func(r *GuardRow) { r.Path = "/admin/api" }), guard(5, "a.b.test", func(r *GuardRow) { r.Path = "/admin/" }),
		guard(6, "a.b.test", func(r *GuardRow) { r.Path, r.Enabled = "/off", false }),
	)
	for place, want := range map[string]int64{
		"a.b.test/admin": 3, "a.b.test/admin/": 3, "a.b.test/administrator": 1, "a.b.test/admin/api": 4, "a.b.test/admin/api/x": 4, "a.b.test/admin/apix": 3,
		"a.b.test/x/y": 2, "a.b.test/off": 1, "c.b.test/x": 2, "c.b.test/xy": 1, "b.test/x": 1, "other.org/": 1,
		"a.b.test/%61dmin": 3, "a.b.test/z/../admin": 3, "a.b.test/z/%2e%2e/admin/x": 3,
	} {
		host, path, _ := strings.Cut(place, "/")
		if got := idOf(view.Guard(host, "/"+path)); got != want {
			t.Errorf("%s: guard %d, want %d", place, got, want)
		}
	}
	if guarded(t).Guard("a.test", "/") != nil {
		t.Error("without guards there is one")
	}
}

func TestAPathThatLeadsToAnotherGuardForALooserServerIsDoubtful(t *testing.T) {
	view := guarded(t, guard(1, "a.test", func(r *GuardRow) { r.Path = "/admin" }))
	for _, path := range []string{
		"//admin", "/admin;v=1/x", "/x/..%2fadmin", "/x/%2e%2e%2fadmin", "/%2fadmin", "/x/..%5cadmin", "/x\\..\\admin", "/x%252f..%252fadmin", "/admin/..%2fx", "/%2561dmin",
	} {
		if !view.GuardIsDoubtful("a.test", path) {
			t.Errorf("%s is not", path)
		}
	}
	for _, path := range []string{"/", "/admin", "/admin//x", "/admin/a%2Fb", "/wiki/a%2Fb", "/x;y", "/a//b", "/admin/;x", "/%41"} {
		if view.GuardIsDoubtful("a.test", path) {
			t.Errorf("%s is", path)
		}
	}
	if view.GuardIsDoubtful("b.test", "//admin") || guarded(t).GuardIsDoubtful("a.test", "//admin") {
		t.Error("where nothing is guarded there is no doubt")
	}
}

func TestDenyGoesBeforeAllowAndAllowExcludesAllOthers(t *testing.T) {
	for lists, clients := range map[[2]string]map[string]bool{
		{"", ""}:                                   {"192.0.2.1": true, "2001:db8::1": true, "": true},
		{"", "192.0.2.0/24, 2001:db8::/32"}:        {"192.0.2.1": false, "192.0.3.1": true, "2001:db8::1": false, "::ffff:192.0.2.9": false, "": true},
		{"10.0.0.0/8 2001:db8::1", "10.1.0.0/16"}:  {"10.0.0.1": true, "10.1.0.1": false, "2001:db8::1": true, "2001:db8::2": false, "192.0.2.1": false, "": false},
		{"::ffff:10.0.0.0/104", "::ffff:10.0.0.9"}: {"10.0.0.1": true, "10.0.0.9": false, "11.0.0.1": false},
	} {
		view := guarded(t, guard(1, "a.test", func(r *GuardRow) { r.Allow, r.Deny = lists[0], lists[1] }))
		for text, want := range clients {
			client, _ := netip.ParseAddr(text)
			if got := view.Guard("a.test", "/").Permits(client); got != want {
				t.Errorf("allow %q, deny %q: %q is %v", lists[0], lists[1], text, got)
			}
		}
	}
}

func TestGuardsThatMakeNoSenseSayWhy(t *testing.T) {
	for want, change := range map[string]func(*GuardRow){
		"host must be":              func(r *GuardRow) { r.Host = "a..b" },
		"path must start with /":    func(r *GuardRow) { r.Path = "x" },
		`allow: "10.0.0.0/33"`:      func(r *GuardRow) { r.Allow = "10.0.0.1, 10.0.0.0/33" },
		`deny: "fe80::1%eth0"`:      func(r *GuardRow) { r.Deny = "fe80::1%eth0" },
		`allow: "::ffff:0.0.0.0/8"`: func(r *GuardRow) { r.Allow = "::ffff:0.0.0.0/8" },
		"rate must be":              func(r *GuardRow) { r.Rate = -1 },
		"burst must be":             func(r *GuardRow) { r.Burst = -1 },
		"users must be":             func(r *GuardRow) { r.Users = "anna:secret" },
		"cutover guards password":   func(r *GuardRow) { r.Users = "anna:" + strings.Replace(someHash, "$04$", "$31$", 1) },
		`names "anna" twice`:        func(r *GuardRow) { r.Users = "anna:" + someHash + "  anna:" + someHash },
		"realm must be":             func(r *GuardRow) { r.Realm = `a"b` },
		"needs a newer cutover":     func(r *GuardRow) { r.Needs = Schema + 1 },
	} {
		row := guard(1, "a.test", change)
		if err := row.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	row := guard(1, "a.test", func(r *GuardRow) {
		r.Users, r.Rate = "anna:"+someHash+" bo:"+strings.Replace(someHash, "2a", "2y", 1), 0.5
	})
	if g, err := row.guard(); err != nil || len(g.Users) != 2 || g.Burst != 1 {
		t.Errorf("%+v, %v", g, err)
	}
}

func TestABadGuardKeepsItsLastGoodVersionThroughARestart(t *testing.T) {
	first := guarded(t, guard(1, "a.test", func(r *GuardRow) { r.Deny = "192.0.2.1" }))
	rows := rowsOf()
	rows.Guards = []GuardRow{guard(1, "a.test", func(r *GuardRow) { r.Deny = "nobody" })}
	view, problems := Compile(rows, thawed(t, first), noon)
	if g := view.Guard("a.test", "/"); g == nil || g.Permits(netip.MustParseAddr("192.0.2.1")) {
		t.Error("it is not in force")
	}
	if len(problems) != 1 || problems[0].Table != "guards" || problems[0].Row != "1" || !problems[0].Serving {
		t.Errorf("%+v", problems)
	}
}

func TestAGuardThatNeverMadeSenseLetsNobodyInUntilItDoes(t *testing.T) {
	typo := func(r *GuardRow) { r.Path, r.Allow = "/admin", "10.0.0.0/33" }
	rows := rowsOf()
	rows.Guards = []GuardRow{guard(1, "a.test", typo), guard(2, "b.test", func(r *GuardRow) { r.Path = "admin" })}
	view, problems := Compile(rows, nil, noon)
	if len(problems) != 2 || problems[0].Serving || !strings.Contains(problems[0].Reason, "nobody is let in") {
		t.Errorf("%+v", problems)
	}
	restarted := thawed(t, view)
	rows.Guards = []GuardRow{guard(1, "a.test", func(r *GuardRow) { r.Path, r.Allow = "/admin", "10.0.0.0/34" }), rows.Guards[1]}
	edited := view.Update(Update{Guards: &rows.Guards})
	if problems := edited.Problems(); len(problems) != 2 || problems[0].Serving {
		t.Errorf("after another mistake: %+v", problems)
	}
	for name, view := range map[string]*View{"at first": view, "after a restart": restarted, "after another mistake": edited} {
		for path, closed := range map[string]bool{"/admin": true, "/admin/x": true, "/": false} {
			if g := view.Guard("a.test", path); (g != nil && g.Closed && !g.Permits(netip.MustParseAddr("10.0.0.1"))) != closed {
				t.Errorf("%s: %s has the guard %+v", name, path, g)
			}
		}
		if g := view.Guard("b.test", "/x"); g == nil || !g.Closed {
			t.Errorf("%s: a host with a path that cannot be told has the guard %+v", name, g)
		}
	}
	rows.Guards = []GuardRow{guard(1, "a.test", func(r *GuardRow) { r.Path, r.Allow = "/admin", "10.0.0.0/8" })}
	mended := edited.Update(Update{Guards: &rows.Guards})
	if g := mended.Guard("a.test", "/admin"); g == nil || g.Closed || len(mended.Problems()) != 0 {
		t.Errorf("once mended: %+v, %+v", g, mended.Problems())
	}
	rows.Guards[0].Enabled, rows.Guards[0].Allow = false, "nobody"
	if off, _ := Compile(rows, nil, noon); off.Guard("a.test", "/admin") != nil {
		t.Error("one that is switched off holds")
	}
}

func TestAGuardKeepsItsPointerAsLongAsItStays(t *testing.T) {
	rows := []GuardRow{guard(1, "a.test", nil), guard(2, "b.test", nil)}
	first := guarded(t, rows...)
	rows[1].Rate = 5
	second := first.Update(Update{Guards: &rows})
	if first.Guard("a.test", "/") != second.Guard("a.test", "/") || first.Guard("b.test", "/") == second.Guard("b.test", "/") {
		t.Error("the one that changed has another pointer, and only that")
	}
}

func TestARequestThatMeetsNoGuardAllocatesNothing(t *testing.T) {
	view := manyGuards(t, 1000)
	if n := testing.AllocsPerRun(100, func() { view.Guard("shop.example.com", "/a/b"); view.GuardIsDoubtful("shop.example.com", "/a/b") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func manyGuards(t testing.TB, n int) *View {
	var rows []GuardRow
	for i := range n {
		rows = append(rows, guard(int64(i+1), hostOf(i), nil))
	}
	return guarded(t, rows...)
}

func BenchmarkARequestThatMeetsNoGuard(b *testing.B) {
	for _, n := range []int{0, 1, 1000} {
		view := manyGuards(b, n)
		b.Run(fmt.Sprintf("among %d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if view.Guard("shop.example.com", "/a/b") != nil || view.GuardIsDoubtful("shop.example.com", "/a/b") {
					b.Fatal("there is one")
				}
			}
		})
	}
}

func FuzzALoosePathIsOneThatStays(f *testing.F) {
	for _, path := range []string{"/", "/a//b", "/a%2f..;x/%252e%252e", "/\\", "/..", "/;"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		plain := normalizePath(path)
		loose := loosePath(plain)
		if !strings.HasPrefix(loose, "/") {
			t.Errorf("%q became %q", path, loose)
		}
		if !strings.ContainsAny(loose, "%\\;") && loosePath(loose) != loose {
			t.Errorf("%q became %q, then %q", path, loose, loosePath(loose))
		}
	})
}

func TestAHostIsGuardedIfAnyOfItsPathsMayBe(t *testing.T) {
	rows := rowsOf()
	rows.Guards = []GuardRow{{ID: 1, Host: "a.test", Path: "/admin", Deny: "192.0.2.1", Enabled: true, Needs: 1}, {ID: 2, Host: "*.b.test", Path: "/", Deny: "192.0.2.1", Enabled: true, Needs: 1}}
	view := compile(t, rows)
	for host, want := range map[string]bool{"a.test": true, "x.a.test": false, "x.b.test": true, "b.test": false, "c.test": false} {
		if got := view.Guarded(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestDotsThatOnlySomeServersSeeAreDoubtfulWhereGuardsTellPathsApart(t *testing.T) {
	rows := rowsOf()
	rows.Guards = []GuardRow{
		{ID: 1, Host: "a.test", Path: "/admin", Deny: "192.0.2.1", Enabled: true, Needs: 1},
		{ID: 2, Host: "whole.test", Path: "/", Deny: "192.0.2.1", Enabled: true, Needs: 1},
	}
	view := compile(t, rows)
	for _, path := range []string{"//admin/%252e%252e/", "/admin/..%2Fpublic", "//admin/..%2F", "/x/%5C..%5Cadmin", "//wp-login.php/%252e%252e/"} {
		if !view.GuardIsDoubtful("a.test", path) {
			t.Errorf("%s is taken for what it seems", path)
		}
		if view.GuardIsDoubtful("whole.test", path) || view.GuardIsDoubtful("free.test", path) {
			t.Errorf("%s is doubtful where all paths are alike", path)
		}
	}
	for _, path := range []string{"/public/.well-known/x", "/a/../public", "/a%20b", "/x;y/z", "/.hidden%20file"} {
		if view.GuardIsDoubtful("a.test", path) {
			t.Errorf("%s is called doubtful", path)
		}
	}
}
