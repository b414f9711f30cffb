// Package upstream forwards requests to the targets of an upstream: it picks one, keeps connections to it, and goes on
// to the next where none could be made.
package upstream

import (
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"time"

	"cutover/rules"
)

// Options is what all pools share.
type Options struct {
	Roots       *x509.CertPool // for https targets; nil means the system's
	DialTimeout time.Duration  // 0 means 3 s
	// OnFailure is called for every attempt that a target did not answer; cause is as Cause returns it.
	OnFailure func(upstream, target, cause string)
}

func (o Options) dialTimeout() time.Duration {
	if o.DialTimeout <= 0 {
		return 3 * time.Second
	}
	return o.DialTimeout
}

// Set keeps a pool for each upstream.
type Set struct {
	options Options

	mu    sync.Mutex
	pools map[string]*Pool
}

// NewSet returns a set without pools; they are made as they are asked for.
func NewSet(o Options) *Set {
	return &Set{options: o, pools: map[string]*Pool{}}
}

// For returns the pool of an upstream. As long as u is the same pointer, so is the pool. When the upstream has
// changed, its targets keep their connections and counts as far as their URLs are the same; requests under way end
// as they began.
func (s *Set) For(u *rules.Upstream) *Pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	pool := s.pools[u.Name]
	if pool != nil && pool.upstream == u {
		return pool
	}
	next := newPool(u, pool, s.options)
	s.pools[u.Name] = next
	if pool != nil && pool.transport != next.transport {
		pool.transport.CloseIdleConnections()
	}
	return next
}

// Keep drops the pools of upstreams that are no longer there.
func (s *Set) Keep(upstreams []*rules.Upstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, pool := range s.pools {
		if !slices.ContainsFunc(upstreams, func(u *rules.Upstream) bool { return u.Name == name }) {
			pool.transport.CloseIdleConnections()
			delete(s.pools, name)
		}
	}
}

// Close closes the connections that idle. Requests under way go on.
func (s *Set) Close() {
	s.Keep(nil)
}

// Status is an upstream as it is right now.
type Status struct {
	Name    string
	Targets []TargetStatus
}

// TargetStatus is a target as it is right now.
type TargetStatus struct {
	rules.Target

	InFlight  int64
	Requests  uint64 // since its first request
	Failures  uint64 // of those, without an answer
	LastError string
}

// Status returns every upstream that was asked for, sorted by name.
func (s *Set) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.pools))
	for name, pool := range s.pools {
		status := Status{Name: name}
		for _, t := range pool.targets {
			status.Targets = append(status.Targets, t.status())
		}
		list = append(list, status)
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return list
}
