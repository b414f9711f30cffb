package upstream

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// probePause is from one look at a target that cannot be reached to the next; jitter comes on top.
const probePause = time.Second

// Run checks the targets of upstreams that want it, and looks at failing ones of others until they can be reached again; until
// ctx ends. Without it a target that has failed gets requests again only once all others have.
func (s *Set) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	checks := checkers{set: s, of: map[*state]checker{}}
	defer checks.stop()
	again := time.NewTicker(noticeChecks)
	defer again.Stop()
	for {
		s.follow()
		s.closeLeft()
		checks.adjust(ctx)
		s.heedWaits(ctx, &probes)
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		case <-s.failed:
		}
		for _, p := range s.takeFailed() {
			probes.Go(func() { s.probe(ctx, p) })
		}
	}
}

// follow drops the pools of upstreams that are gone, and targets that are.
func (s *Set) follow() {
	if s.options.Upstreams == nil {
		return
	}
	list := s.options.Upstreams()
	s.options.files.keep(list)
	for _, u := range list {
		s.For(u)
	}
	s.Keep(list)
}

// probe is a target to look at until it can be reached.
type probe struct {
	upstream string
	target   *target
	fault    *fault
}

// watch has Run look at a target that fails. It never waits.
func (s *Set) watch(p probe) {
	s.mu.Lock()
	s.toProbe = append(s.toProbe, p)
	s.mu.Unlock()
	select {
	case s.failed <- struct{}{}:
	default: // Run has yet to take those before
	}
}

func (s *Set) takeFailed() []probe {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.toProbe
	s.toProbe = nil
	return list
}

// probe ends when the target can be reached, when a request has shown so, when checks take over, or when the target is gone.
func (s *Set) probe(ctx context.Context, p probe) {
	timer := time.NewTimer(p.fault.pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if p.target.state.health.failing.Load() != p.fault || p.target.state.health.checked.Load() || !s.has(p.upstream, p.target.state) {
			return
		}
		if p.target.connections.try(ctx) == nil {
			s.answers(p.upstream, p.target, p.target.state.health.readmit(time.Now()))
			return
		}
		timer.Reset(probePause + rand.N(probePause/4))
	}
}

// fails tells those who want to know that a target has begun to fail.
func (s *Set) fails(upstream string, t *target, f *fault) {
	defer t.line.look() // if all fail now, those in line may go to one that does
	if f.hangs {
		t.state.waits.move()
	}
	if !t.state.health.checked.Load() {
		s.watch(probe{upstream, t, f})
	}
	s.options.log().Warn("a target fails: it gets no requests while another of its upstream does not",
		slog.String("upstream", upstream), slog.String("target", t.row.URL), slog.String("error", f.why))
}

// answers tells them that it has ended to; ended may be nil.
func (s *Set) answers(upstream string, t *target, ended *fault) {
	if ended == nil {
		return
	}
	defer t.line.look()
	s.options.log().Info("a target answers again",
		slog.String("upstream", upstream), slog.String("target", t.row.URL), slog.Duration("failed_for", time.Since(ended.since).Round(time.Millisecond)))
}
