package rules

import (
	"hash/maphash"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// MaxHops is how many redirects in a row a browser follows.
const MaxHops = 20

// Chain is a redirect whose destination is redirected itself, or whose visitors never arrive.
type Chain struct {
	ID   int64    `json:"id"`   // of the redirect that it begins with
	From string   `json:"from"` // its host and path
	Hops []string `json:"hops"` // where its visitor is sent, in order
	Loop bool     `json:"loop"` // it leads back to where it was, or on for more than MaxHops
}

func (c Chain) String() string {
	text := c.From + " → " + strings.Join(c.Hops, " → ")
	if c.Loop {
		return text + " and so on, without an end"
	}
	return text
}

// Source yields the rows of a table and ends with yield's error. It may be called several times, and yields the same each
// time.
type Source[Row any] func(yield func(*Row) error) error

// FindChains yields the redirects in force at now that do not lead a visitor straight to a destination, in their order. Each
// one's own path is followed, not what keep_path appends to it. Rules matter since a visitor who meets one has arrived.
//
// It holds no more than a hash of each redirect, and those rows that may meet another: a million that lead nowhere else
// cost a few dozen megabytes and three passes.
func FindChains(rows Source[Rule], redirects Source[Redirect], now time.Time, yield func(Chain)) error {
	f := finder{seed: maphash.MakeSeed(), places: map[uint64]struct{}{}, hosts: map[string]bool{}}
	if err := redirects(f.note); err != nil {
		return err
	}
	if err := redirects(f.pick); err != nil || len(f.leading) == 0 {
		return err
	}
	if err := redirects(f.keepRedirect); err != nil {
		return err
	}
	if err := rows(f.keepRule); err != nil {
		return err
	}
	view, _ := Compile(f.rows, nil, now)
	for i := range f.leading {
		row := &f.leading[i]
		if hops, loop := view.follow(row.ToURL); len(hops) > 1 || loop {
			yield(Chain{ID: row.ID, From: row.Host + row.Path, Hops: hops, Loop: loop})
		}
	}
	return nil
}

// finder gathers what FindChains needs of the rows.
type finder struct {
	seed    maphash.Seed
	places  map[uint64]struct{} // hashes of where redirects stand
	leading []Redirect          // whose destination may be such a place
	hosts   map[string]bool     // patterns that cover those destinations
	rows    Rows                // of these hosts
}

func (f *finder) hash(host string, kind Kind, path string) uint64 {
	return maphash.String(f.seed, host+"\x00"+string(kind)+"\x00"+path)
}

func leads(row *Redirect) bool { return row.Enabled && row.Validate() == nil }

// note takes down where a redirect stands.
func (f *finder) note(row *Redirect) error {
	if leads(row) {
		key, _ := patternKey(row.Host) // it was validated
		path := normalizePath(row.Path)
		if row.Match == KindPrefix {
			path = strings.TrimRight(path, "/")
		}
		f.places[f.hash(key, row.Match, path)] = struct{}{}
	}
	return nil
}

// pick keeps a redirect that leads to where another one stands, or itself.
func (f *finder) pick(row *Redirect) error {
	if !leads(row) || row.Status == http.StatusGone {
		return nil
	}
	request, ok := visit(row.ToURL)
	if !ok {
		return nil
	}
	patterns := patternsOf(request.Host)
	if slices.ContainsFunc(patterns, func(pattern string) bool { return f.stands(pattern, normalizePath(request.Path)) }) {
		f.leading = append(f.leading, *row)
		for _, pattern := range patterns {
			f.hosts[pattern] = true
		}
	}
	return nil
}

// stands reports whether a redirect of a host may cover a path.
func (f *finder) stands(host, path string) bool {
	if _, ok := f.places[f.hash(host, KindExact, path)]; ok {
		return true
	}
	for end := len(path); ; end = max(0, strings.LastIndexByte(path[:end], '/')) {
		if _, ok := f.places[f.hash(host, KindPrefix, path[:end])]; ok || end == 0 {
			return ok
		}
	}
}

// patternsOf lists the hosts of rows that a host may meet.
func patternsOf(host string) []string {
	if _, parent, ok := strings.Cut(host, "."); ok {
		return []string{host, "*." + parent, "*"}
	}
	return []string{host, "*"}
}

func (f *finder) keepRedirect(row *Redirect) error {
	if key, err := patternKey(row.Host); err == nil && f.hosts[key] && leads(row) {
		f.rows.Redirects = append(f.rows.Redirects, *row)
	}
	return nil
}

func (f *finder) keepRule(row *Rule) error {
	if key, err := patternKey(row.Host); err != nil || !f.hosts[key] {
		return nil
	}
	f.rows.Rules = append(f.rows.Rules, *row)
	for _, name := range []string{row.V1, row.V2} { // which upstream it is does not matter here
		if !slices.ContainsFunc(f.rows.Upstreams, func(u Upstream) bool { return u.Name == name }) {
			f.rows.Upstreams = append(f.rows.Upstreams, Upstream{Name: name})
		}
	}
	return nil
}

// follow goes where a browser would be sent from location on.
func (v *View) follow(location string) (hops []string, loop bool) {
	for {
		hops = append(hops, location)
		request, ok := visit(location)
		if !ok {
			return hops, false
		}
		decision := v.Match(request)
		if decision.Action != Moved {
			return hops, false
		}
		location = decision.Location
		if slices.Contains(hops, location) {
			return append(hops, location), true
		}
		if len(hops) == MaxHops {
			return hops, true
		}
	}
}

// visit is the request of a browser for a location; ok is false for a port that is not served here.
func visit(location string) (request *Request, ok bool) {
	u, err := url.Parse(location)
	if err != nil || (u.Port() != "" && u.Port() != "80" && u.Port() != "443") {
		return nil, false
	}
	host, err := NormalizeHost(u.Host)
	if err != nil {
		return nil, false
	}
	return &Request{Method: http.MethodGet, Host: host, Path: u.EscapedPath(), RawQuery: u.RawQuery, Header: http.Header{}}, true
}
