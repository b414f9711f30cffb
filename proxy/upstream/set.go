// Package upstream forwards requests to the targets of an upstream: it picks one that does not fail, keeps connections to it,
// and goes on to the next where that does no harm.
package upstream

import (
	"cmp"
	"crypto/x509"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"cutover/proxy/fastcgi"
	"cutover/rules"
)

// Options is what all pools share.
type Options struct {
	Roots       *x509.CertPool // for https targets; nil means the system's
	FilesDir    string         // of the files that rows of upstreams name for TLS
	DialTimeout time.Duration  // where a row has no connect_timeout; 0 means 3 s
	// OnFailure is called for every attempt that a target did not answer, or not to the end; cause is as Cause returns
	// it. Any number of calls may run at once.
	OnFailure func(upstream, target, cause string)
	// OnGone is called for a target that has left its upstream, once it is forgotten: some time after its last request.
	OnGone func(upstream, target string)
	Log    *slog.Logger // of targets that begin or end to fail; may be nil
	// Upstreams returns those that there are: Run forgets others, and checks their targets if their rows want it. It must not call
	// the Set, and may be nil.
	Upstreams func() []*rules.Upstream
	// Expand finds the targets that rows stand for; nil if each is one by itself.
	Expand Expander

	files    *tlsFiles     // which the pools of a set share
	vanished time.Duration // for tests; 0 means the usual
}

func (o Options) vanishedTimeout() time.Duration { return cmp.Or(o.vanished, vanished) }

func (o Options) dialTimeout() time.Duration {
	if o.DialTimeout <= 0 {
		return 3 * time.Second
	}
	return o.DialTimeout
}

func (s *Set) upstreams() []*rules.Upstream {
	if s.options.Upstreams == nil {
		return nil
	}
	return s.options.Upstreams()
}

func (o Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// Set keeps a pool for each upstream. Any number of goroutines may use it at once. Use NewSet.
type Set struct {
	options Options
	failed  chan struct{} // tells Run of targets to look at
	bodies  fastcgi.Spool // of requests to FastCGI

	mu      sync.Mutex
	pools   map[string]generations
	toProbe []probe
	left    []left
}

// generations is an upstream's pool and the one before, which requests may still ask for that began before a change.
type generations struct{ current, last *Pool }

// NewSet returns a set without pools; they are made as they are asked for.
func NewSet(o Options) *Set {
	o.files = newTLSFiles(o.FilesDir, o.log())
	return &Set{options: o, failed: make(chan struct{}, 1), pools: map[string]generations{}, bodies: fastcgi.Spool{Dir: bodyFolder()}}
}

// For returns the pool of an upstream. As long as u is the same pointer and stands for the same targets, so is the pool. When
// the upstream has changed, its targets keep their connections and counts as far as their URLs are the same; requests under way end
// as they began. A request that has held u through more than one change gets the pool of the upstream as it is now.
func (s *Set) For(u *rules.Upstream) *Pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.known(u); p != nil {
		return p
	}
	g := s.pools[u.Name]
	if g.current == nil || g.current.upstream == u {
		return s.renew(u)
	}
	now := s.newest(u.Name)
	switch {
	case now == nil && g.last != nil && g.last.upstream == u:
		return g.last
	case now == nil || now == u:
		return s.renew(u)
	}
	if p := s.known(now); p != nil { // what is gone must not take the place of what is there
		return p
	}
	return s.renew(now)
}

// known returns the pool that an upstream has, if that has the targets of the moment. It needs the lock.
func (s *Set) known(u *rules.Upstream) *Pool {
	g := s.pools[u.Name]
	for _, p := range []*Pool{g.current, g.last} {
		if p != nil && p.upstream == u && p.isCurrent() {
			return p
		}
	}
	return nil
}

// newest returns the row of a name as it is now; nil if there is none.
func (s *Set) newest(name string) *rules.Upstream {
	list := s.upstreams()
	if i := slices.IndexFunc(list, func(u *rules.Upstream) bool { return u.Name == name }); i >= 0 {
		return list[i]
	}
	return nil
}

// renew makes an upstream a new pool. It needs the lock.
func (s *Set) renew(u *rules.Upstream) *Pool {
	g := s.pools[u.Name]
	next := newPool(u, g.current, s)
	s.pools[u.Name] = generations{current: next, last: g.current}
	if g.current != nil && g.current.upstream == u { // requests still ask for the row before, not for the targets before
		s.pools[u.Name] = generations{current: next, last: g.last}
	}
	s.leave(g.current, next)
	s.leave(g.last, next)
	return next
}

// Keep drops the pools of upstreams that are no longer there. Requests under way go on.
func (s *Set) Keep(upstreams []*rules.Upstream) {
	s.gone(s.drop(upstreams))
}

// drop is Keep, and returns the targets that are forgotten by it.
func (s *Set) drop(upstreams []*rules.Upstream) (forgotten []goneTarget) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, g := range s.pools {
		if slices.ContainsFunc(upstreams, func(u *rules.Upstream) bool { return u.Name == name }) {
			continue
		}
		s.leave(g.current, nil)
		s.leave(g.last, nil)
		delete(s.pools, name)
		forgotten = append(forgotten, g.current.forgotten()...)
	}
	return forgotten
}

// Close closes the connections that idle. Requests under way go on.
func (s *Set) Close() {
	s.drop(nil)
}

// Status is an upstream as it is right now.
type Status struct {
	Name    string
	Targets []TargetStatus
	Waiting int // requests in line, since every target has as many as it may
	// OpenSince is when the circuit breaker opened, and OpenBecause why; zero if it is closed.
	OpenSince   time.Time
	OpenBecause string
}

// TargetStatus is a target as it is right now.
type TargetStatus struct {
	rules.Target

	Source     string // URL of the row by which it was found; empty if that is its own
	InFlight   int64  // tunnels included
	Requests   uint64 // since its first request
	Failures   uint64 // of those, without an answer or with half of one
	LastError  string
	TLSProblem string // why the files for TLS cannot be read; while there were good ones before, those hold
	// FailingSince is when the target began to fail, and FailingBecause why; zero if it does not. It gets requests only if all
	// others fail, too.
	FailingSince   time.Time
	FailingBecause string
	Latency        time.Duration // to the first header of an answer, on average; 0 if none has come
	Checked        time.Duration // that the last check took which was answered; 0 if there is none
}

// Status returns every upstream that there is, or was asked for, sorted by name.
func (s *Set) Status() []Status {
	s.follow()
	problems := s.options.files.problems()
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.pools))
	for _, g := range s.pools {
		status := g.current.status()
		for _, t := range g.current.targets {
			status.Targets = append(status.Targets, t.status())
			if t.connections.secure != nil {
				status.Targets[len(status.Targets)-1].TLSProblem = problems[tlsNamesOf(&g.current.upstream.TargetTLS)]
			}
		}
		list = append(list, status)
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// has reports whether a target belongs to an upstream as it is now.
func (s *Set) has(upstream string, of *state) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.pools[upstream]
	return g.current != nil && g.current.knows(of)
}
