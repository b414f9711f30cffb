package upstream

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"time"
)

// probePause is from one look at a target that cannot be reached to the next; jitter comes on top.
const probePause = time.Second

// Run looks at failing targets until they can be reached again or ctx ends. Without it a target that has failed gets
// requests again only once all others have.
func (s *Set) Run(ctx context.Context) error {
	var probes sync.WaitGroup
	defer probes.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.failed:
		}
		for _, p := range s.takeFailed() {
			probes.Go(func() { s.probe(ctx, p) })
		}
	}
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

// probe ends when the target can be reached, when a request has shown so, or when the target is gone.
func (s *Set) probe(ctx context.Context, p probe) {
	timer := time.NewTimer(p.fault.pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if p.target.state.health.failing.Load() != p.fault || !s.has(p.upstream, p.target.state) {
			return
		}
		if s.reaches(ctx, p.target.url) {
			s.answers(p.upstream, p.target, p.target.state.health.readmit(time.Now()))
			return
		}
		timer.Reset(probePause + rand.N(probePause/4))
	}
}

// reaches reports whether a connection can be made, TLS included where the target wants it.
func (s *Set) reaches(ctx context.Context, address *url.URL) bool {
	ctx, cancel := context.WithTimeout(ctx, s.options.dialTimeout())
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", hostAndPort(address))
	if err != nil {
		return false
	}
	defer func() { _ = c.Close() }()
	if address.Scheme != "https" {
		return true
	}
	config := s.options.tlsConfig()
	config.ServerName = address.Hostname()
	return tls.Client(c, config).HandshakeContext(ctx) == nil
}

// hostAndPort returns where a target listens.
func hostAndPort(address *url.URL) string {
	port := address.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[address.Scheme]
	}
	return net.JoinHostPort(address.Hostname(), port)
}

// fails tells those who want to know that a target has begun to fail.
func (s *Set) fails(upstream string, t *target, f *fault) {
	s.watch(probe{upstream, t, f})
	s.options.log().Warn("a target fails: it gets no requests while another of its upstream does not",
		slog.String("upstream", upstream), slog.String("target", t.row.URL), slog.String("error", f.why))
}

// answers tells them that it has ended to; ended may be nil.
func (s *Set) answers(upstream string, t *target, ended *fault) {
	if ended == nil {
		return
	}
	s.options.log().Info("a target answers again",
		slog.String("upstream", upstream), slog.String("target", t.row.URL), slog.Duration("failed_for", time.Since(ended.since).Round(time.Millisecond)))
}
