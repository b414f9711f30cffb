package rules

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// View is one immutable picture of all rules. Any number of goroutines may use it at once. A nil View has no rules
// and forwards everything to v1.
type View struct {
	lineage    string
	fallback   Default
	exact      map[string]*site // by host
	parents    map[string]*site // *.parent, by parent
	any        *site            // *
	policies   map[string]*Host
	upstreams  []*Upstream // sorted by name
	hosts      []string    // sorted: what Allows
	counts     Counts
	nextChange time.Time

	good goodRows // what later views fall back on
}

// goodRows is the last good version of every row.
type goodRows struct {
	rules     map[int64]Rule
	redirects map[int64]Redirect
	targets   map[int64]Target
	upstreams map[string]Upstream // without targets
	hosts     map[string]Host
}

// Counts says how much is in force.
type Counts struct {
	Rules     int `json:"rules"`
	Redirects int `json:"redirects"`
	Hosts     int `json:"hosts"` // known exactly, by a rule, a redirect or a row of their own
	Upstreams int `json:"upstreams"`
}

// Good returns the last good version of every row, served or not: what a process that starts later can fall back on, by
// compiling it and giving the result to Compile as previous.
func (v *View) Good() Rows {
	if v == nil {
		return Rows{}
	}
	rows := Rows{Lineage: v.lineage, Default: v.fallback}
	for _, u := range v.upstreams {
		rows.Upstreams = append(rows.Upstreams, *u)
	}
	rows.Hosts = slices.SortedFunc(maps.Values(v.good.hosts), func(a, b Host) int { return strings.Compare(a.Host, b.Host) })
	rows.Rules = slices.SortedFunc(maps.Values(v.good.rules), func(a, b Rule) int { return cmp.Compare(a.ID, b.ID) })
	rows.Redirects = slices.SortedFunc(maps.Values(v.good.redirects), func(a, b Redirect) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// Counts says how much is in force.
func (v *View) Counts() Counts {
	if v == nil {
		return Counts{}
	}
	return v.counts
}

// NextChange returns when a rule starts or ends next, after the time that Compile was given; the zero time if none
// does. A new View must be compiled then.
func (v *View) NextChange() time.Time {
	if v == nil {
		return time.Time{}
	}
	return v.nextChange
}

// Allows reports whether a certificate may be asked for: host, in normal form, is a DNS name with a dot that a row in
// force names exactly. Wildcards route and never allow.
func (v *View) Allows(host string) bool {
	if v == nil {
		return false
	}
	_, found := slices.BinarySearch(v.hosts, host)
	return found
}

// Hosts returns every name that Allows, sorted. It must not be changed.
func (v *View) Hosts() []string {
	if v == nil {
		return nil
	}
	return v.hosts
}

// Upstreams returns the upstreams sorted by name. A pointer stays the same from view to view as long as the upstream
// and its targets do; neither may be changed.
func (v *View) Upstreams() []*Upstream {
	if v == nil {
		return nil
	}
	return v.upstreams
}

// Upstream returns an upstream by name.
func (v *View) Upstream(name string) (*Upstream, bool) {
	all := v.Upstreams()
	i, found := slices.BinarySearchFunc(all, name, func(u *Upstream, name string) int {
		switch {
		case u.Name < name:
			return -1
		case u.Name > name:
			return 1
		}
		return 0
	})
	if !found {
		return nil, false
	}
	return all[i], true
}
