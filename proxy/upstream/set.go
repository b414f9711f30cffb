// Package upstream forwards requests to the targets of an upstream: it picks one that does not fail, keeps connections to it,
// and goes on to the next where that does no harm.
package upstream

import (
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
	DialTimeout time.Duration  // 0 means 3 s
	// OnFailure is called for every attempt that a target did not answer, or not to the end; cause is as Cause returns
	// it. Any number of calls may run at once.
	OnFailure func(upstream, target, cause string)
	Log       *slog.Logger // of targets that begin or end to fail; may be nil
	// Upstreams returns those that there are: Run forgets others, and checks their targets if their rows want it. It may be nil.
	Upstreams func() []*rules.Upstream

	files *tlsFiles // which the pools of a set share
}

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
}

// generations is an upstream's pool and the one before, which requests may still ask for that began before a change.
type generations struct{ current, last *Pool }

// NewSet returns a set without pools; they are made as they are asked for.
func NewSet(o Options) *Set {
	o.files = newTLSFiles(o.FilesDir, o.log())
	return &Set{options: o, failed: make(chan struct{}, 1), pools: map[string]generations{}, bodies: fastcgi.Spool{Dir: bodyFolder()}}
}

// For returns the pool of an upstream. As long as u is the same pointer, so is the pool. When the upstream has
// changed, its targets keep their connections and counts as far as their URLs are the same; requests under way end
// as they began.
func (s *Set) For(u *rules.Upstream) *Pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.pools[u.Name]
	switch {
	case g.current != nil && g.current.upstream == u:
		return g.current
	case g.last != nil && g.last.upstream == u:
		return g.last
	}
	next := newPool(u, g.current, s)
	s.pools[u.Name] = generations{current: next, last: g.current}
	for _, old := range []*Pool{g.current, g.last} {
		if old != nil {
			old.closeIdle(next)
		}
	}
	return next
}

// Keep drops the pools of upstreams that are no longer there. Requests under way go on.
func (s *Set) Keep(upstreams []*rules.Upstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, g := range s.pools {
		if slices.ContainsFunc(upstreams, func(u *rules.Upstream) bool { return u.Name == name }) {
			continue
		}
		g.current.closeIdle(nil)
		if g.last != nil {
			g.last.closeIdle(nil)
		}
		delete(s.pools, name)
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
}

// Status returns every upstream that there is, or was asked for, sorted by name.
func (s *Set) Status() []Status {
	s.follow()
	problems := s.options.files.problems()
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.pools))
	for name, g := range s.pools {
		status := Status{Name: name}
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
	return g.current != nil && slices.ContainsFunc(g.current.targets, func(t *target) bool { return t.state == of })
}
