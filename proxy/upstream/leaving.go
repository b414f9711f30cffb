package upstream

import (
	"slices"
	"time"
)

// lingers is how long a request that has its pool may take to choose a target of it.
const lingers = time.Minute

// left are the connections to a target that no pool of the moment has.
type left struct {
	*connections
	since time.Time
}

// leave closes the idle connections of a pool, which may be nil, that the next does not use. Requests that have the pool may
// still make some. It needs the lock.
func (s *Set) leave(p, next *Pool) {
	if p == nil {
		return
	}
	p.closeIdle(next)
	for _, t := range p.targets {
		if next == nil || !next.has(t.connections) {
			s.left = append(s.left, left{t.connections, time.Now()})
		}
	}
}

// closeLeft closes what has become idle since it was left.
func (s *Set) closeLeft() {
	s.gone(s.forgetLeft())
}

func (s *Set) forgetLeft() (forgotten []goneTarget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.left {
		l.closeIdle()
	}
	for name, g := range s.pools {
		for _, url := range g.current.absent.forget(time.Now()) {
			forgotten = append(forgotten, goneTarget{name, url})
		}
	}
	s.left = slices.DeleteFunc(s.left, func(l left) bool { return time.Since(l.since) > lingers })
	return forgotten
}

// goneTarget is a target that is known no more.
type goneTarget struct{ upstream, url string }

// gone tells who wants to know.
func (s *Set) gone(list []goneTarget) {
	for _, t := range list {
		if s.options.OnGone != nil {
			s.options.OnGone(t.upstream, t.url)
		}
	}
}

// forgotten returns all targets of an upstream, for when it is gone.
func (p *Pool) forgotten() (list []goneTarget) {
	for _, t := range p.targets {
		list = append(list, goneTarget{p.upstream.Name, t.row.URL})
	}
	for url := range p.absent {
		list = append(list, goneTarget{p.upstream.Name, url})
	}
	return list
}

// absent are the targets of an upstream that are not there any more, by their URLs. One that comes back soon, since the DNS has left
// it out of one answer, is the one that it was: with its requests in flight, its fault and its latency. The Set's lock guards it.
type absent map[string]absentee

type absentee struct {
	*target
	since time.Time // when it left, or later, when it had a request
}

// leave adds targets; takeBack is to follow for those that stay.
func (a absent) leave(targets []*target, now time.Time) {
	for _, t := range targets {
		a[t.row.URL] = absentee{t, now}
	}
}

// forget drops those that nobody will miss, and returns their URLs.
func (a absent) forget(now time.Time) (forgotten []string) {
	for url, t := range a {
		switch {
		case t.state.inFlight.Load() > 0:
			a[url] = absentee{t.target, now}
		case now.Sub(t.since) > lingers:
			delete(a, url)
			forgotten = append(forgotten, url)
		}
	}
	return forgotten
}

// takeBack is for the targets of a new pool, after the last one, which may be nil. It needs the lock.
func (s *Set) takeBack(p, last *Pool) {
	for _, t := range p.targets {
		delete(p.absent, t.row.URL)
		if last != nil && last.knows(t.state) {
			continue
		}
		s.left = slices.DeleteFunc(s.left, func(l left) bool { return l.connections == t.connections })
		if f := t.state.health.failing.Load(); f != nil { // its probe may have ended when it left
			s.toProbe = append(s.toProbe, probe{p.upstream.Name, t, f})
		}
	}
}
