package rules

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func hostOf(n int) string { return fmt.Sprintf("customer-%d.shop-%d.example", n*7919%1_000_003, n%997) }

func manyHosts(t testing.TB, n int) *View {
	rows := rowsOf()
	for i := range n {
		rows.Rules = append(rows.Rules, rule(int64(i+1), hostOf(i), nil))
	}
	return compile(t, rows)
}

func TestAHostRuleTakesAtMost70Bytes(t *testing.T) {
	view := manyHosts(t, 100_000)
	if size := (len(view.base.slots) + len(view.base.records)) / 100_000; size > 70 {
		t.Errorf("%d bytes", size)
	}
}

func TestAMatchAmongManyPathsOfAHostAllocatesNothing(t *testing.T) {
	rows := rowsOf(rule(1, "a.test", func(r *Rule) {
		r.Conditions = `{"methods":["GET"],"headers":{"x":"1"},"cookies":{"c":"1"},"query":{"q":"1"},"client_ips":["::1"]}`
	}))
	for n := range 1000 {
		rows.Redirects = append(rows.Redirects, redirect(int64(n+1), "a.test", fmt.Sprintf("/old/%d", n), "https://b.test/", nil))
		rows.Rules = append(rows.Rules, rule(int64(n+2), "a.test", func(r *Rule) { r.Path = fmt.Sprintf("/new/%d", n) }))
	}
	view := compile(t, rows)
	changed := view.Update(Update{Rows: []RowUpdate{{Ref: Ref{"rules", 5000}, Rule: &Rule{
		ID: 5000, Host: "a.test", Path: "/new/7/x", Match: KindExact, V1: V1, V2: V2, Sticky: StickyCookie, Enabled: true,
	}}}})
	for _, v := range []*View{view, changed} {
		r := ask("a.test", "/new/7/x")
		r.Header["Cookie"], r.RawQuery = []string{"c=1"}, "q=2"
		if n := testing.AllocsPerRun(100, func() { v.Match(r) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// mapMatch is Match on a Go map, for whole hosts with one rule: what the table is measured by.
func mapMatch(hosts map[string]*entry, v *View, r *Request) Decision {
	d := Decision{Bucket: -1, HTTPS: HTTPSOff}
	_ = normalizePath(r.Path)
	if e := hosts[r.Host]; e != nil && e.inForce(v.at) {
		d.toRule(e, r, v)
	}
	return d
}

func BenchmarkMatchAmongAMillionHosts(b *testing.B) {
	view := manyHosts(b, 1_000_000)
	plain := make(map[string]*entry, 1_000_000)
	for key, text := range view.all {
		plain[strings.Clone(key)] = &readEntries(readPlace(text).entries)[0]
	}
	random := rand.New(rand.NewPCG(1, 2))
	for kind, among := range map[string]int{"cold": 1_000_000, "hot": 16} {
		hosts := make([]string, 1<<16)
		for i := range hosts {
			hosts[i] = hostOf(random.IntN(among))
		}
		for name, match := range map[string]func(*Request) Decision{
			"view": view.Match,
			"map":  func(r *Request) Decision { return mapMatch(plain, view, r) },
		} {
			b.Run(kind+"/"+name, func(b *testing.B) { benchmarkMatch(b, hosts, match) })
		}
	}
}

func benchmarkMatch(b *testing.B, hosts []string, match func(*Request) Decision) {
	b.ReportAllocs()
	r := ask("", "/a/b")
	i := 0
	for b.Loop() {
		r.Host = hosts[i&(len(hosts)-1)]
		i++
		if d := match(r); d.Upstream != V2 {
			b.Fatal(d)
		}
	}
}
