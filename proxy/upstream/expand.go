package upstream

import (
	"cmp"
	"context"
	"slices"

	"cutover/rules"
)

// Expander knows the targets that rows stand for which name another place where these are written. Any number of goroutines may
// use it at once.
type Expander interface {
	// Targets returns the rows that a row stands for now, which is itself if it says where its target is. It never waits.
	Targets(row rules.Target) []rules.Target
	// Generation changes whenever Targets does for any row.
	Generation() uint64
	// Await returns once everything that the rows name was looked up, or when ctx ends.
	Await(ctx context.Context, rows []rules.Target)
}

// found is the row of a target, and where it comes from.
type found struct {
	rules.Target
	source string // URL of the row that stands for it; empty if that is its own
}

// expand returns the rows of the targets that rows stand for. Where two lead to the same URL, the first one counts: there is one
// count of requests and one health for a URL.
func (o Options) expand(rows []rules.Target) []found {
	var list []found
	for _, row := range rows {
		if o.Expand == nil || !isSought(row) {
			list = append(list, found{Target: row})
			continue
		}
		for _, target := range o.Expand.Targets(row) {
			if !slices.ContainsFunc(list, func(f found) bool { return f.URL == target.URL }) {
				list = append(list, found{target, row.URL})
			}
		}
	}
	return list
}

// isSought reports whether a row names another place.
func isSought(row rules.Target) bool {
	source, err := rules.ParseTarget(row.URL)
	return err == nil && source.Kind != rules.SourceAddress
}

// address returns where the target listens, and by which name it is known there.
func (f found) address() (rules.Address, error) {
	address, err := rules.ParseAddress(f.URL)
	if err != nil || f.source == "" {
		return address, err
	}
	source, err := rules.ParseTarget(f.source)
	address.Host = cmp.Or(source.Host(), address.Host)
	return address, err
}

// sought is what a pool knows of the search for its targets; the Set's lock guards it.
type sought struct {
	needed     bool // a row names another place
	generation uint64
	list       []found
}

// seek finds the targets that the rows of an upstream stand for now.
func (o Options) seek(u *rules.Upstream) sought {
	s := sought{needed: o.Expand != nil && slices.ContainsFunc(u.Targets, isSought)}
	if s.needed {
		s.generation = o.Expand.Generation() // what changes from here on is a later one
	}
	s.list = o.expand(u.Targets)
	return s
}

// isCurrent reports whether a pool has the targets that its rows stand for now. It needs the Set's lock.
func (p *Pool) isCurrent() bool {
	if !p.sought.needed || p.sought.generation == p.set.options.Expand.Generation() {
		return true
	}
	now := p.set.options.seek(p.upstream)
	if !slices.Equal(now.list, p.sought.list) {
		return false
	}
	p.sought.generation = now.generation // it was another row's
	return true
}

// awaited returns the pool once its targets were looked up, if it has none: for them, the first request waits no longer than for
// a connection.
func (p *Pool) awaited(ctx context.Context) *Pool {
	if len(p.targets) > 0 || !p.sought.needed {
		return p
	}
	limit := p.set.options.dialTimeout()
	if seconds := p.upstream.Connect; seconds > 0 {
		limit = rules.Seconds(seconds)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p.set.options.Expand.Await(ctx, p.upstream.Targets)
	return p.set.For(p.upstream)
}
