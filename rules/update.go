package rules

import (
	"maps"
	"slices"
)

// Update is what has changed in the tables since a view was made.
type Update struct {
	Default   *Default     // nil: as it was
	Upstreams *[]Upstream  // all of them; nil: as they were
	Hosts     []HostUpdate // the rows of hosts that changed
	Rows      []RowUpdate  // the rows of rules and redirects that changed, each once
	Guards    *[]GuardRow  // all of them; nil: as they were
}

// HostUpdate is what a row of hosts is now.
type HostUpdate struct {
	Host string // as the table names it
	Row  *Host  // nil if it is gone
}

// RowUpdate is what a row of rules or redirects is now, and where it was.
type RowUpdate struct {
	Ref      Ref
	Was      []Location
	Rule     *Rule     // of a row of rules that is there
	Redirect *Redirect // of a row of redirects that is there
}

// Location is the host, path and match of a row as they are written.
type Location struct {
	Host, Path string
	Match      Kind
}

// key returns the key of the place; false if no row can be there.
func (l Location) key() (string, bool) {
	pattern, err := patternKey(l.Host)
	if err != nil {
		return "", false
	}
	return hostPart(pattern) + pathPart(l.Match, l.Path), true
}

// Update returns the view after a change. It takes time for what changed, not for what there is.
func (v *View) Update(u Update) *View {
	e := v.edit()
	if u.Default != nil {
		e.next.fallback = e.compiler.fallback(*u.Default)
	}
	if u.Upstreams != nil {
		e.setUpstreams(*u.Upstreams)
	}
	if u.Guards != nil {
		e.next.guards = e.guards(*u.Guards)
		e.next.counts.Guards = e.next.guards.count()
	}
	for i := range u.Hosts {
		e.updateHost(&u.Hosts[i])
	}
	for i := range u.Rows {
		e.updateRow(&u.Rows[i])
	}
	return e.view()
}

// updater makes the view after a change.
type updater struct {
	compiler
	next   View
	places map[string]*placeEdit // those that were looked at
	times  []int64
}

// placeEdit is a place that is being changed.
type placeEdit struct {
	place
	list    []entry
	existed bool
}

func (v *View) edit() *updater {
	e := &updater{next: *v, places: map[string]*placeEdit{}}
	e.compiler = compiler{previous: v, upstreams: v.upstreams, problems: maps.Clone(v.problems), homes: maps.Clone(v.homes), refuse: v.refuse}
	e.names.names = v.names
	return e
}

// at returns a place to be changed.
func (e *updater) at(key string) *placeEdit {
	if p := e.places[key]; p != nil {
		return p
	}
	host, path := splitKey(key)
	p := &placeEdit{place: e.previous.place(host, path)}
	p.list, p.existed = readEntries(p.entries), !p.empty()
	e.places[key] = p
	return p
}

func (e *updater) updateHost(u *HostUpdate) {
	delete(e.problems, problemKey{"hosts", u.Host})
	pattern, err := patternKey(u.Host)
	if err != nil {
		if u.Row != nil {
			e.host(u.Row) // it says why
		}
		return
	}
	delete(e.problems, problemKey{"hosts", pattern})
	key := hostPart(pattern)
	p := e.at(key)
	var policy place
	if u.Row != nil {
		var ok bool
		if _, policy, ok = e.host(u.Row); !ok {
			return
		}
	}
	e.next.wildcards += (one(policy.policy) - one(p.policy)) * (1 - isExactHost(key))
	if policy.file != e.next.files[key] {
		e.next.files = withFile(maps.Clone(e.next.files), key, policy.file)
	}
	p.setPolicy(&policy)
}

// updateRow takes a row's entry from where it was and puts it where it is now.
func (e *updater) updateRow(u *RowUpdate) {
	lastKey, last, known := e.take(u)
	e.lastGood = func(Ref) (string, entry, bool) { return lastKey, last, known }
	delete(e.problems, u.Ref.problemKey())
	delete(e.homes, u.Ref)
	var p placed
	ok := false
	switch {
	case u.Rule != nil:
		p, ok = e.rule(u.Rule)
	case u.Redirect != nil:
		p, ok = e.redirect(u.Redirect)
	}
	if !ok {
		return
	}
	e.remove(p.host+p.path, u.Ref)
	to := e.at(p.host + p.path)
	to.list = append(to.list, p.entry)
	e.next.count(&p.entry, 1)
	e.times = appendTimes(e.times, &p.entry)
}

// take removes a row's entry from every place at which it may be, and returns the last one.
func (e *updater) take(u *RowUpdate) (key string, last entry, ok bool) {
	keys := make([]string, 0, len(u.Was)+1)
	for _, location := range u.Was {
		if key, ok := location.key(); ok {
			keys = append(keys, key)
		}
	}
	if home, ok := e.homes[u.Ref]; ok {
		keys = append(keys, home)
	}
	for _, k := range keys {
		if removed, found := e.remove(k, u.Ref); found {
			key, last, ok = k, removed, true
		}
	}
	return key, last, ok
}

func (e *updater) remove(key string, ref Ref) (removed entry, ok bool) {
	p := e.at(key)
	i := slices.IndexFunc(p.list, func(e entry) bool { return e.ref() == ref })
	if i < 0 {
		return entry{}, false
	}
	removed = p.list[i]
	p.list = slices.Delete(p.list, i, i+1)
	e.next.count(&removed, -1)
	return removed, true
}

// view writes what was changed.
func (e *updater) view() *View {
	delta := e.next.delta.edit()
	for key, p := range e.places {
		p.entries = asString(appendEntries(nil, p.list))
		if host, path := splitKey(key); path != "" {
			e.set(delta, key, p)
			e.countDeep(host, uint64(len(path)), p)
		}
	}
	for key, p := range e.places { // the whole hosts last: now it is known what is below them
		if _, path := splitKey(key); path == "" {
			e.set(delta, key, p)
			e.next.counts.Hosts += isExactHost(key) * (one(!p.empty()) - one(p.existed))
		}
	}
	v := &e.next
	v.delta, v.names, v.upstreams, v.problems, v.homes = &delta.copy, e.names.names, e.upstreams, e.problems, e.homes
	v.counts.Upstreams = len(v.upstreams)
	if len(e.times) > 0 {
		v.times = slices.Concat(v.times, e.times)
		slices.Sort(v.times)
		v.times = slices.Compact(v.times)
	}
	return v
}

func (e *updater) set(delta *deltaEditor, key string, p *placeEdit) {
	host, path := splitKey(key)
	text := ""
	if !p.empty() {
		text = asString(p.append(nil))
	}
	if text != e.previous.lookup(host, path) {
		delta.set(placeHash(e.next.base.seed, host, path), key, text)
	}
}

// countDeep tells a host that a place below it came or went.
func (e *updater) countDeep(host string, size uint64, p *placeEdit) {
	exists := !p.empty()
	if exists == p.existed {
		return
	}
	whole := e.at(host)
	if exists {
		whole.deep, whole.longest = whole.deep+1, max(whole.longest, size)
	} else {
		whole.deep--
	}
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
