package rules

import "time"

// Compile builds a View from rows. A row that makes no sense is reported, and previous's good version of the same row
// stays in force if there is one; previous may be nil, and one of another lineage counts as nil. now decides which rules
// have started and ended.
func Compile(rows Rows, previous *View, now time.Time) (*View, []Problem) {
	b := NewBuilder(Setup{Lineage: rows.Lineage, Default: rows.Default, Upstreams: rows.Upstreams, Expect: len(rows.Rules) + len(rows.Redirects)}, previous)
	for i := range rows.Hosts {
		b.AddHost(&rows.Hosts[i])
	}
	for i := range rows.Redirects {
		b.AddRedirect(&rows.Redirects[i])
	}
	for i := range rows.Rules {
		b.AddRule(&rows.Rules[i])
	}
	b.SetGuards(rows.Guards)
	view, err := b.View(now)
	if err != nil { // rows that fit into memory fit into a view
		panic(err)
	}
	return view, view.Problems()
}
