package rules

import (
	"slices"
	"strings"
	"time"
)

// View is one immutable picture of all rules. Any number of goroutines may use it at once. A nil View has no rules
// and forwards everything to v1.
//
// What it says of hosts and paths stands in two levels: a table without pointers, which may hold millions, and a small
// delta of what has changed since the table was made.
type View struct {
	lineage   string
	fallback  Default
	at        int64 // what has started and ended is that of this time, in Unix milliseconds
	base      *table
	delta     *delta
	names     *names
	upstreams []*Upstream // sorted by name
	counts    Counts
	times     []int64           // sorted: when something starts or ends, past times included
	wildcards int               // rows of hosts for *.parent and *
	files     map[string]string // the names of files whose certificates are served, by the hosts of places
	guards    *guards

	problems problemSet
	homes    map[Ref]string // of bad rows whose last good version serves: the key where it does

	refuse func(*Target) error // see Setup.Refuse; may be nil
}

// Counts says how much there is.
type Counts struct {
	Rules     int `json:"rules"`     // enabled, whether or not their time has come
	Redirects int `json:"redirects"` // enabled
	Hosts     int `json:"hosts"`     // known exactly, by an enabled rule or redirect or a row of their own
	Upstreams int `json:"upstreams"`
	Guards    int `json:"guards"` // in force
}

// count adds n entries like e.
func (v *View) count(e *entry, n int) {
	if e.redirect {
		v.counts.Redirects += n
	} else {
		v.counts.Rules += n
	}
}

// Lineage returns the lineage of the database that the view is of.
func (v *View) Lineage() string {
	if v == nil {
		return ""
	}
	return v.lineage
}

// Default returns what happens to a request that nothing matches.
func (v *View) Default() Default {
	if v == nil || v.fallback == "" {
		return DefaultV1
	}
	return v.fallback
}

// Counts says how much there is.
func (v *View) Counts() Counts {
	if v == nil {
		return Counts{}
	}
	return v.counts
}

// Problems returns why rows are not served as they are written, sorted by table and row.
func (v *View) Problems() []Problem {
	if v == nil {
		return nil
	}
	return v.problems.sorted()
}

// Pending returns how many places the delta holds: how much would be gained by Folded.
func (v *View) Pending() int {
	if v == nil || v.delta == nil {
		return 0
	}
	return v.delta.count
}

// NextChange returns when a rule starts or ends next; the zero time if none does. At that time, the view of At is in
// force.
func (v *View) NextChange() time.Time {
	if v == nil {
		return time.Time{}
	}
	i, _ := slices.BinarySearch(v.times, v.at+1)
	if i == len(v.times) {
		return time.Time{}
	}
	return time.UnixMilli(v.times[i])
}

// Due reports whether something starts or ends between the view's time and another, which is earlier where a clock was set
// back: then the view of At is in force.
func (v *View) Due(now time.Time) bool {
	if v == nil {
		return false
	}
	past, _ := slices.BinarySearch(v.times, v.at+1)
	passed, _ := slices.BinarySearch(v.times, now.UnixMilli()+1)
	return past != passed
}

// Refusing returns the view with what Update asks about targets: see Setup.Refuse. Those that it has serve on until then.
func (v *View) Refusing(refuse func(*Target) error) *View {
	if v == nil {
		return nil
	}
	other := *v
	other.refuse = refuse
	return &other
}

// At returns the same rules as they are in force at another time.
func (v *View) At(now time.Time) *View {
	if v == nil {
		return nil
	}
	later := *v
	later.at = now.UnixMilli()
	return &later
}

// lookup returns what the view says of a place, and nothing where it says nothing.
func (v *View) lookup(host, path string) string {
	if v.base == nil {
		return ""
	}
	hash := placeHash(v.base.seed, host, path)
	if v.delta != nil {
		if text, ok := v.delta.find(hash, host, path); ok {
			return text
		}
	}
	return v.base.find(hash, host, path)
}

// place returns what the view says of a place.
func (v *View) place(host, path string) place {
	if v == nil {
		return place{}
	}
	p := readPlace(v.lookup(host, path))
	if p.certificate == certificateFile {
		p.file = v.files[host]
	}
	return p
}

// all yields every key and its place.
func (v *View) all(yield func(key, place string) bool) {
	if v == nil || v.base == nil {
		return
	}
	for key, text := range v.base.all {
		if host, path := splitKey(key); v.delta != nil {
			if _, changed := v.delta.find(placeHash(v.base.seed, host, path), host, path); changed {
				continue
			}
		}
		if !yield(key, text) {
			return
		}
	}
	for _, r := range v.delta.all {
		if r.place != "" && !yield(r.key, r.place) {
			return
		}
	}
}

// goodEntries returns a function that finds entries by the rows that they were made from. The view is searched once, when
// that is asked for the first time.
func (v *View) goodEntries() func(Ref) (key string, e entry, ok bool) {
	type found struct {
		key   string
		entry entry
	}
	var known map[Ref]found
	return func(ref Ref) (string, entry, bool) {
		if known == nil {
			known = map[Ref]found{}
			for key, text := range v.all {
				for _, e := range readEntries(readPlace(text).entries) {
					known[e.ref()] = found{key, e}
				}
			}
		}
		f, ok := known[ref]
		return f.key, f.entry, ok
	}
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
func (v *View) Upstream(name string) (*Upstream, bool) { return findUpstream(v.Upstreams(), name) }

func findUpstream(all []*Upstream, name string) (*Upstream, bool) {
	i, found := slices.BinarySearchFunc(all, name, func(u *Upstream, name string) int { return strings.Compare(u.Name, name) })
	if !found {
		return nil, false
	}
	return all[i], true
}
