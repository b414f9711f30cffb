package rules

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func chainsOf(t *testing.T, rows Rows) string {
	t.Helper()
	var found []string
	if err := FindChains(each(rows.Rules), each(rows.Redirects), noon, func(c Chain) { found = append(found, c.String()) }); err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, "\n")
}

func each[Row any](rows []Row) Source[Row] {
	return func(yield func(*Row) error) error {
		for i := range rows {
			if err := yield(&rows[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestChainsAndLoopsAreFound(t *testing.T) {
	keep := func(r *Redirect) { r.KeepPath = true }
	off := func(r *Redirect) { r.Enabled = false }
	exact := func(r *Redirect) { r.Match = KindExact }
	for name, row := range map[string]struct {
		redirects []Redirect
		want      string
	}{
		"one alone":         {[]Redirect{redirect(1, "a.test", "/", "https://b.test/", nil)}, ""},
		"a chain":           {[]Redirect{redirect(1, "a.test", "/", "https://b.test/x", nil), redirect(2, "b.test", "/x", "https://c.test/", nil)}, "a.test/ → https://b.test/x → https://c.test/"},
		"one that is off":   {[]Redirect{redirect(1, "a.test", "/", "https://b.test/x", nil), redirect(2, "b.test", "/x", "https://c.test/", off)}, ""},
		"to itself":         {[]Redirect{redirect(1, "a.test", "/", "https://a.test/", nil)}, "a.test/ → https://a.test/ → https://a.test/ and so on, without an end"},
		"below itself":      {[]Redirect{redirect(1, "a.test", "/", "https://a.test/new", nil)}, "a.test/ → https://a.test/new → https://a.test/new and so on, without an end"},
		"exact":             {[]Redirect{redirect(1, "a.test", "/", "https://a.test/new", exact)}, ""},
		"another port":      {[]Redirect{redirect(1, "a.test", "/", "https://a.test:8443/", nil)}, ""},
		"any host":          {[]Redirect{redirect(1, "*", "/old", "https://a.test/old/", nil)}, "*/old → https://a.test/old/ → https://a.test/old/ and so on, without an end"},
		"not the same path": {[]Redirect{redirect(1, "a.test", "/", "https://b.test/y", nil), redirect(2, "b.test", "/", "https://c.test/", keep), redirect(3, "c.test", "/", "https://a.test/", exact)}, "a.test/ → https://b.test/y → https://c.test/y\n" + "b.test/ → https://c.test/ → https://a.test/ → https://b.test/y → https://c.test/y\nc.test/ → https://a.test/ → https://b.test/y → https://c.test/y"},
	} {
		t.Run(name, func(t *testing.T) {
			rows := rowsOf()
			rows.Redirects = row.redirects
			if got := chainsOf(t, rows); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
}

func TestARuleThatGoesFirstEndsAChain(t *testing.T) {
	rows := rowsOf(rule(1, "www.test", nil))
	rows.Redirects = []Redirect{redirect(1, "*", "/", "https://www.test/", nil)}
	if got := chainsOf(t, rows); got != "" {
		t.Errorf("got %s", got)
	}
}

func TestEveryLoopThatARequestMeetsIsFound(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	hosts, paths := []string{"a.test", "b.test", "*.test", "*"}, []string{"/", "/x", "/x/y", "/z/"}
	for range 500 {
		rows := rowsOf()
		for id := range int64(6) {
			to := "https://" + hosts[random.IntN(2)] + paths[random.IntN(4)]
			rows.Redirects = append(rows.Redirects, redirect(id+1, hosts[random.IntN(4)], paths[random.IntN(4)], to, func(r *Redirect) {
				r.Match, r.KeepPath, r.Enabled = []Kind{KindExact, KindPrefix}[random.IntN(2)], random.IntN(3) == 0, random.IntN(5) > 0
			}))
		}
		view := compile(t, rows)
		var want []string
		for _, row := range rows.Redirects { // without the shortcuts
			if hops, loop := view.follow(row.ToURL); row.Enabled && (len(hops) > 1 || loop) {
				want = append(want, Chain{From: row.Host + row.Path, Hops: hops, Loop: loop}.String())
			}
		}
		if got := chainsOf(t, rows); got != strings.Join(want, "\n") {
			t.Fatalf("%+v\ngot\n%s\nwant\n%s", rows.Redirects, got, strings.Join(want, "\n"))
		}
	}
}

func TestAWayThatGetsEverLongerIsALoop(t *testing.T) {
	rows := rowsOf()
	rows.Redirects = []Redirect{redirect(1, "a.test", "/", "https://a.test/x", func(r *Redirect) { r.KeepPath = true })}
	if got := chainsOf(t, rows); !strings.HasSuffix(got, "without an end") {
		t.Errorf("got %s", got)
	}
}

func BenchmarkFindChains(b *testing.B) {
	rows := rowsOf()
	for i := range 100_000 {
		rows.Redirects = append(rows.Redirects, redirect(int64(i+1), fmt.Sprintf("h%d.test", i), "/", fmt.Sprintf("https://h%d.test/", i/2+200_000), nil))
	}
	for b.Loop() {
		if err := FindChains(each(rows.Rules), each(rows.Redirects), noon, func(c Chain) { b.Error(c) }); err != nil {
			b.Fatal(err)
		}
	}
}
