package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"

	"cutover/rules"
)

// Pool forwards to the targets of one upstream. It is an http.RoundTripper for requests whose URL has no scheme and
// host yet: those are the target's. It does not close a request's body: whoever made the request does.
type Pool struct {
	upstream    *rules.Upstream
	connections *connections
	targets     []*target
	onFailure   func(upstream, target, cause string)

	mu sync.Mutex // for the targets' current weights
}

func newPool(u *rules.Upstream, last *Pool, o Options) *Pool {
	p := &Pool{upstream: u, onFailure: o.OnFailure}
	kept := map[string]*counts{}
	if last != nil {
		for _, t := range last.targets {
			kept[t.row.URL] = t.counts
		}
		if last.upstream.ResponseTimeout == u.ResponseTimeout {
			p.connections = last.connections
		}
	}
	if p.connections == nil {
		p.connections = newConnections(u, o)
	}
	for _, row := range u.Targets {
		address, err := url.Parse(row.URL)
		if err != nil {
			continue // rules.Target.Validate refuses such a row
		}
		p.targets = append(p.targets, newTarget(row, address, kept[row.URL]))
	}
	return p
}

// RoundTrip sends a request to a target. Where no connection can be made, nothing was sent, and the next target is
// tried; each at most once. The body is never read for an attempt that fails so. An error wraps ErrNoTarget,
// ErrUnreachable, or what broke the exchange off; see Cause and IsTimeout.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	var room [4]*target
	tried := room[:0]
	last := ErrNoTarget
	for {
		t := p.pick(tried)
		if t == nil {
			return nil, fmt.Errorf("upstream %q: %w", p.upstream.Name, last)
		}
		tried = append(tried, t)
		response, reached, err := p.attempt(t, r)
		if err == nil {
			return response, nil
		}
		last = fmt.Errorf("target %s: %w", t.row.URL, err)
		if reached || r.Context().Err() != nil {
			return nil, fmt.Errorf("upstream %q: %w", p.upstream.Name, last)
		}
	}
}

// attempt sends a request to one target. reached says that it may have got something of the request.
func (p *Pool) attempt(t *target, r *http.Request) (response *http.Response, reached bool, err error) {
	progress := &progress{}
	ctx := progress.follow(r.Context())
	out, address := r.WithContext(ctx), *r.URL
	address.Scheme, address.Host = t.url.Scheme, t.url.Host
	out.URL = &address
	if r.Body != nil && r.Body != http.NoBody {
		// The transport closes a body even when it cannot connect; it must stay for the next target.
		out.Body = heldBody{r.Body}
	}
	t.counts.requests.Add(1)
	t.counts.inFlight.Add(1)
	if chosen := chosenTarget(ctx); chosen != nil {
		*chosen = t.row.URL
	}
	response, err = p.connections.transportFor(r).RoundTrip(out)
	if err != nil {
		t.counts.inFlight.Add(-1)
		return nil, progress.reached(), p.failed(ctx, t, progress.explain(err))
	}
	response.Body = p.watched(ctx, t, response.Body)
	return response, true, nil
}

// failed counts a failure, unless it is the visitor who ended the request, and returns it.
func (p *Pool) failed(ctx context.Context, t *target, err error) error {
	if ctx.Err() != nil || isVisitors(err) {
		return err
	}
	t.counts.failures.Add(1)
	text := err.Error()
	t.counts.lastError.Store(&text)
	if p.onFailure != nil {
		p.onFailure(p.upstream.Name, t.row.URL, Cause(err))
	}
	return err
}

// pick chooses among the targets that are ready and were not tried: smooth weighted round robin, which spreads a
// heavy target's turns evenly. It returns nil where there is none.
func (p *Pool) pick(tried []*target) *target {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *target
	total := 0
	for _, t := range p.targets {
		if t.row.State != rules.StateReady || t.row.Weight <= 0 || slices.Contains(tried, t) {
			continue
		}
		t.current += t.row.Weight
		total += t.row.Weight
		if best == nil || t.current > best.current {
			best = t
		}
	}
	if best != nil {
		best.current -= total
	}
	return best
}
