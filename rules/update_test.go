package rules

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// world is rows that random edits change, and the view that follows them by updates alone.
type world struct {
	random    *rand.Rand
	rules     map[int64]Rule
	redirects map[int64]Redirect
	hosts     map[string]Host
	guards    map[int64]GuardRow
	view      *View
	nextID    int64
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{
		random: rand.New(rand.NewPCG(seed, 1)), rules: map[int64]Rule{}, redirects: map[int64]Redirect{}, hosts: map[string]Host{}, guards: map[int64]GuardRow{},
		view: compile(t, rowsOf()), nextID: 1,
	}
}

func pick[T any](w *world, some ...T) T { return some[w.random.IntN(len(some))] }

func (w *world) place() (host, path string, kind Kind) {
	host = pick(w, "a.test", "A.test.", "b.test", "x.b.test", "*.b.test", "*.test", "*")
	path = pick(w, "/", "/a", "/a/", "/a/b", "/a/b/c", "/%61/b", "/a//b", "/a%2Fb")
	return host, path, pick(w, KindPrefix, KindExact)
}

func (w *world) rule(id int64) Rule {
	host, path, kind := w.place()
	return rule(id, host, func(r *Rule) {
		r.Path, r.Match, r.Percent = path, kind, pick(w, 0.0, 100, 0, 100, 333) // one in five is bad
		r.Conditions = pick(w, "{}", "{}", `{"methods":["POST"]}`, `{"methods":["POST"],"headers":{"X":"1"}}`, `{"oops"}`)
		r.Enabled = pick(w, true, true, true, false)
		r.V2 = pick(w, V2, V2, "other", "nobody")
	})
}

func (w *world) redirect(id int64) Redirect {
	host, path, kind := w.place()
	return redirect(id, host, path, "https://to.test/", func(r *Redirect) {
		r.Match, r.Status, r.Enabled = kind, pick(w, 301, 308, 301, 999), pick(w, true, true, false)
	})
}

// edit changes one row, as an operator might, and returns the update that the journal leads to.
func (w *world) edit() Update {
	switch w.random.IntN(6) {
	case 0:
		host := pick(w, "a.test", "b.test", "c.test", "*.b.test", "*.test", "*")
		if w.random.IntN(2) == 0 {
			delete(w.hosts, host)
			return Update{Hosts: []HostUpdate{{Host: host}}}
		}
		row := Host{Host: host, HTTPS: pick(w, HTTPSOff, HTTPSRedirect, "oops"), HSTS: 60, Needs: 1}
		row.Certificate = pick(w, CertificateAuto, CertificateAny, CertificateOff, "file:x", "file:y", "file:../x")
		row.TLS = pick(w, TLSTerminate, TLSTerminate, TLSPassthrough)
		w.hosts[host] = row
		return Update{Hosts: []HostUpdate{{Host: host, Row: &row}}}
	case 1:
		return w.editRedirect()
	case 2:
		return w.editGuard()
	}
	return w.editRule()
}

func (w *world) editGuard() Update {
	id := 1 + w.random.Int64N(8)
	delete(w.guards, id)
	if w.random.IntN(4) > 0 {
		host, path, _ := w.place()
		w.guards[id] = guard(id, host, func(r *GuardRow) {
			r.Path, r.Enabled = path, pick(w, true, true, false)
			r.Deny = pick(w, "", "192.0.2.1", "10.0.0.0/8", "10.0.0.0/33")
		})
	}
	all := slices.Collect(maps.Values(w.guards))
	return Update{Guards: &all}
}

func (w *world) id(known int) int64 {
	if known > 30 || w.random.IntN(3) > 0 {
		return 1 + w.random.Int64N(w.nextID)
	}
	w.nextID++
	return w.nextID
}

func (w *world) editRule() Update {
	u := RowUpdate{Ref: Ref{"rules", w.id(len(w.rules))}}
	if before, ok := w.rules[u.Ref.ID]; ok {
		u.Was = []Location{{before.Host, before.Path, before.Match}}
	}
	delete(w.rules, u.Ref.ID)
	if w.random.IntN(4) > 0 {
		row := w.rule(u.Ref.ID)
		w.rules[row.ID], u.Rule = row, &row
	}
	return Update{Rows: []RowUpdate{u}}
}

func (w *world) editRedirect() Update {
	u := RowUpdate{Ref: Ref{"redirects", w.id(len(w.redirects))}}
	if before, ok := w.redirects[u.Ref.ID]; ok {
		u.Was = []Location{{before.Host, before.Path, before.Match}}
	}
	delete(w.redirects, u.Ref.ID)
	if w.random.IntN(4) > 0 {
		row := w.redirect(u.Ref.ID)
		w.redirects[row.ID], u.Redirect = row, &row
	}
	return Update{Rows: []RowUpdate{u}}
}

func (w *world) rows() Rows {
	rows := rowsOf()
	for _, row := range w.rules {
		rows.Rules = append(rows.Rules, row)
	}
	for _, row := range w.redirects {
		rows.Redirects = append(rows.Redirects, row)
	}
	for _, row := range w.guards {
		rows.Guards = append(rows.Guards, row)
	}
	for _, row := range w.hosts {
		rows.Hosts = append(rows.Hosts, row)
	}
	return rows
}

func TestAfterEveryUpdateTheViewIsThatOfAllRows(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed)
		for step := range 200 {
			before := w.view
			w.view = before.Update(w.edit())
			switch w.random.IntN(20) {
			case 0:
				folded, err := w.view.Folded()
				if err != nil {
					t.Fatal(err)
				}
				w.view = folded
			case 1:
				w.view = thawed(t, w.view)
			}
			fresh, problems := Compile(w.rows(), before, noon)
			for _, host := range []string{"a.test", "x.b.test", "y.test", "elsewhere.org"} {
				is, _ := w.view.Host(host)
				want, _ := fresh.Host(host)
				if is != want || w.view.Allows(host) != fresh.Allows(host) || w.view.Match(ask(host, "/")) != fresh.Match(ask(host, "/")) {
					t.Fatalf("seed %d, step %d: %s has %+v, want %+v", seed, step, host, is, want)
				}
			}
			if n, some := Difference(w.view, fresh); n > 0 || w.view.Counts() != fresh.Counts() || !slices.Equal(w.view.Problems(), problems) {
				t.Fatalf("seed %d, step %d: %d differences %v\n%+v, want %+v\n%+v, want %+v", seed, step, n, some, w.view.Counts(), fresh.Counts(), w.view.Problems(), problems)
			}
		}
	}
}

func thawed(t *testing.T, v *View) *View {
	t.Helper()
	frozen, err := v.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	again, sound, err := Thaw(frozen)
	if err != nil || !sound {
		t.Fatalf("%v, %v", sound, err)
	}
	return again
}

// scan decides as the documentation says, by looking at every row.
func scan(rows Rows, r *Request) (ruleID, redirectID int64) {
	type candidate struct {
		host, kind, length, conditions, rank int
		rule, redirect                       int64
	}
	var all []candidate
	consider := func(host, path string, kind Kind, conditions int, rank int, rule, redirect int64) {
		c := candidate{conditions: -conditions, rank: rank, rule: rule, redirect: redirect}
		switch pattern, _ := patternKey(host); {
		case pattern == r.Host:
		case strings.HasPrefix(pattern, "*.") && strings.HasSuffix(r.Host, pattern[1:]) && !strings.Contains(strings.TrimSuffix(r.Host, pattern[1:]), "."):
			c.host = 1
		case pattern == "*":
			c.host = 2
		default:
			return
		}
		path, asked := pathPart(kind, path), normalizePath(r.Path)
		switch {
		case kind == KindExact && path == asked:
		case kind == KindPrefix && (asked == path || strings.HasPrefix(asked, path+"/")):
			c.kind, c.length = 1, -len(path)
		default:
			return
		}
		all = append(all, c)
	}
	for _, row := range rows.Redirects {
		if row.Enabled && row.Validate() == nil {
			consider(row.Host, row.Path, row.Match, 0, 0, 0, row.ID)
		}
	}
	for _, row := range rows.Rules {
		if conditions, _ := parseConditions(row.Conditions); row.Enabled && row.Validate() == nil && row.V2 != "nobody" && (conditions == "" || holds(conditions, r, new(bool))) {
			consider(row.Host, row.Path, row.Match, int(conditionCount(conditions)), 1, row.ID, 0)
		}
	}
	if len(all) == 0 {
		return 0, 0
	}
	best := slices.MinFunc(all, func(a, b candidate) int {
		return cmp.Or(a.host-b.host, a.kind-b.kind, a.length-b.length, a.conditions-b.conditions, a.rank-b.rank,
			cmp.Compare(a.rule, b.rule), cmp.Compare(a.redirect, b.redirect))
	})
	return best.rule, best.redirect
}

func TestEveryDecisionIsThatOfAScanOfAllRows(t *testing.T) {
	for seed := range uint64(20) {
		w := newWorld(t, seed+100)
		for range 100 {
			w.view = w.view.Update(w.edit())
		}
		rows := w.rows()
		view, _ := Compile(rows, nil, noon) // without last good versions
		for _, host := range []string{"a.test", "b.test", "x.b.test", "y.b.test", "q.x.b.test", "elsewhere.org"} {
			for _, path := range []string{"/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a/b/c/d", "/ab", "/a//b", "/a%2fb", "/z/../a"} {
				for _, method := range []string{"GET", "POST"} {
					r := ask(host, path)
					r.Method, r.Header["X"] = method, []string{"1"}
					rule, redirect := scan(rows, r)
					if d := view.Match(r); d.RuleID != rule || d.RedirectID != redirect {
						t.Fatalf("seed %d: %s %s%s: rule %d, redirect %d; want %d, %d\n%+v", seed, method, host, path, d.RuleID, d.RedirectID, rule, redirect, rows.Rules)
					}
				}
			}
		}
	}
}

func TestAViewThatIsFoldedBesideEditsTakesThemAlong(t *testing.T) {
	w := newWorld(t, 7)
	for range 50 {
		w.view = w.view.Update(w.edit())
	}
	earlier := w.view
	folded, err := earlier.Folded()
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		w.view = w.view.Update(w.edit())
	}
	rebased, ok := w.view.Rebased(earlier, folded)
	if n, some := Difference(w.view, rebased); !ok || n > 0 {
		t.Errorf("%v, %d differences: %v", ok, n, some)
	}
	if _, again := rebased.Rebased(earlier, folded); again {
		t.Error("a view of another table is rebased")
	}
	if rebased.Pending() >= w.view.Pending() {
		t.Errorf("%d places pending, %d before", rebased.Pending(), w.view.Pending())
	}
}

func FuzzDamagedBytesNeverPanic(f *testing.F) {
	rows := rowsOf(rule(1, "a.test", func(r *Rule) { r.Conditions = `{"methods":["GET"],"client_ips":["10.0.0.0/8"]}` }), rule(2, "*.test", func(r *Rule) { r.Path, r.Percent = "/a", 12.5 }))
	rows.Redirects = []Redirect{redirect(1, "a.test", "/b", "https://c.test/d?e#f", nil)}
	view, _ := Compile(rows, nil, noon)
	frozen, err := view.Freeze()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(frozen.Head), frozen.Slots, frozen.Records)
	f.Fuzz(func(t *testing.T, head, slots, records string) {
		view, _, err := Thaw(Frozen{[]byte(head), slots, records})
		if err != nil {
			return
		}
		for _, path := range []string{"/", "/a/b", "/b"} {
			view.Match(ask("a.test", path))
			view.Match(ask("b.test", path))
		}
		view.NextChange()
		view.Allows("a.test")
		view.Host("b.test")
		view.Guard("b.test", "/a")
		if folded, err := view.Folded(); err == nil {
			Difference(view, folded)
		}
		view.Update(Update{Rows: []RowUpdate{{Ref: Ref{"rules", 1}, Was: []Location{{"a.test", "/", KindPrefix}}}}})
	})
}

func FuzzPlacesAreReadAsTheyWereWritten(f *testing.F) {
	f.Add(int64(1), byte(0xff), "conditions", int64(5), int64(7), 12.5, uint64(1), uint64(2), "https://a", "/b", "c", "#d")
	f.Fuzz(func(t *testing.T, id int64, bits byte, conditions string, starts, ends int64, percent float64, v1, v2 uint64, origin, path, query, fragment string) {
		e := entry{id: id, redirect: bits&1 != 0, exact: bits&2 != 0, stale: bits&4 != 0, conditions: conditions, starts: starts, ends: ends}
		if e.redirect {
			e.keepPath, e.keepQuery, e.status, e.to = bits&8 != 0, bits&16 != 0, int(v1&0xffff), destination{origin, path, query, fragment}
		} else {
			e.address, e.v1, e.v2, e.percent = bits&8 != 0, v1, v2, min(max(0, percent), 100)
		}
		if e.percent != e.percent {
			return // Validate lets no NaN through
		}
		p := place{policy: bits&32 != 0, https: bits&64 != 0, deep: v1, entries: string(e.append(nil))}
		p.passthrough, p.certificate = bits&128 != 0, certificateKind(v2&certificateMask)
		if p.policy {
			p.hsts = starts
		}
		if p.deep > 0 {
			p.longest = v2
		}
		again := readPlace(string(p.append(nil)))
		if list := readEntries(again.entries); again != p || len(list) != 1 || list[0] != e {
			t.Errorf("%+v, %+v; want %+v, %+v", again, list, p, e)
		}
	})
}

func TestTheTableFindsEveryKeyAndNoOther(t *testing.T) {
	view := manyHosts(t, 10_000)
	for n := range 20_000 {
		if found := view.lookup(hostOf(n), "") != ""; found != (n < 10_000) {
			t.Fatalf("%s: %v", hostOf(n), found)
		}
	}
	if view.lookup(fmt.Sprint(hostOf(1), "x"), "") != "" {
		t.Error("a longer key is found")
	}
}
