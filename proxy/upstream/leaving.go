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
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.left {
		l.closeIdle()
	}
	s.left = slices.DeleteFunc(s.left, func(l left) bool { return time.Since(l.since) > lingers })
}
