package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"cutover/rules"
)

// Pool forwards to the targets of one upstream. It is an http.RoundTripper for requests whose URL has no scheme and
// host yet: those are the target's. It does not close a request's body: whoever made the request does.
type Pool struct {
	upstream *rules.Upstream
	targets  []*target
	set      *Set
	repeats  *budget

	keepsBodies bool // of requests, before a target is picked
}

func newPool(u *rules.Upstream, last *Pool, s *Set) *Pool {
	p := &Pool{upstream: u, set: s, repeats: newBudget()}
	kept := map[string]*target{}
	if last != nil {
		p.repeats = last.repeats
		for _, t := range last.targets {
			kept[t.row.URL] = t
		}
	}
	manner := mannerOf(u)
	for _, row := range u.Targets {
		t, err := newTarget(row, kept[row.URL], manner, s.options)
		if err != nil {
			continue // rules.Target.Validate refuses such a row
		}
		p.targets = append(p.targets, t)
		p.keepsBodies = p.keepsBodies || t.connections.fastCGI != nil
	}
	return p
}

// has reports whether a target of the pool uses these connections.
func (p *Pool) has(c *connections) bool {
	return slices.ContainsFunc(p.targets, func(t *target) bool { return t.connections == c })
}

// closeIdle closes the idle connections that another pool does not use; it may be nil.
func (p *Pool) closeIdle(other *Pool) {
	for _, t := range p.targets {
		if other == nil || !other.has(t.connections) {
			t.connections.closeIdle()
		}
	}
}

// RoundTrip sends a request to a target; each gets it at most once. The next target is tried where no connection could be made,
// since nothing was sent; and where a connection broke before an answer, if the request may be repeated and not too many are.
// A body is never read for an attempt that another follows. An error wraps ErrNoTarget, ErrUnreachable, or what broke the
// exchange off; see Cause and IsTimeout.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.mustKeep(r) {
		return p.keepBody(r)
	}
	var room [4]*target
	tried := room[:0]
	last := ErrNoTarget
	p.repeats.earn()
	for {
		t := p.pick(tried)
		if t == nil {
			return nil, fmt.Errorf("upstream %q: %w", p.upstream.Name, last)
		}
		tried = append(tried, t)
		response, fate, err := p.attempt(t, r)
		if err == nil {
			return response, nil
		}
		last = fmt.Errorf("target %s: %w", t.row.URL, err)
		if r.Context().Err() != nil || fate == unfit || fate == sent && !p.mayRepeat(r, err, len(tried)) {
			return nil, fmt.Errorf("upstream %q: %w", p.upstream.Name, last)
		}
	}
}

// mayRepeat reports whether a request that a target may have got can be sent to another. Too late an answer is none: who
// waited for so long need not wait as long again.
func (p *Pool) mayRepeat(r *http.Request, err error, attempts int) bool {
	return isRepeatable(r) && !isUpgrade(r) && Cause(err) == "broken" && attempts < len(p.targets) && p.repeats.spend()
}

// attempt sends a request to one target; its fate says something only if there is an error.
func (p *Pool) attempt(t *target, r *http.Request) (*http.Response, fate, error) {
	progress := &progress{}
	ctx := progress.follow(r.Context())
	out := r.WithContext(ctx)
	hasBody := r.Body != nil && r.Body != http.NoBody
	if hasBody {
		// The transport closes a body even when it cannot connect; it must stay for the next target.
		held := &heldBody{ReadCloser: r.Body}
		out.Body = held
		if t.connections.multiplexed != nil {
			out.GetBody = held.again // a connection that others share may be given up at the moment when it is chosen
		}
	}
	t.state.requests.Add(1)
	t.state.inFlight.Add(1)
	if chosen := chosenTarget(ctx); chosen != nil {
		*chosen = t.row.URL
	}
	began := time.Now()
	response, err := t.connections.send(out)
	if err != nil {
		t.state.inFlight.Add(-1)
		return nil, progress.fate(), p.failed(ctx, t, progress.explain(err), isUpgrade(r))
	}
	p.answered(t, response, began, hasBody)
	response.Body = p.watched(ctx, t, response.Body, isUpgrade(r))
	return response, sent, nil
}

// answered notes what an answer's header says of a target. How long an upload takes says nothing of it; nor does a quick error,
// which must not draw visitors.
func (p *Pool) answered(t *target, response *http.Response, began time.Time, hadBody bool) {
	now := time.Now()
	if !hadBody && response.StatusCode < http.StatusInternalServerError {
		t.state.latency.add(now.Sub(began), now)
	}
	p.set.answers(p.upstream.Name, t, t.state.health.succeeded(began, now))
}

// failed counts a failure, unless it is the visitor who ended the request, and returns it. That a target does not change the
// protocol when a visitor wants it to says nothing of its health: else any visitor could have it left out.
func (p *Pool) failed(ctx context.Context, t *target, err error, upgrade bool) error {
	if ctx.Err() != nil || isVisitors(err) {
		return err
	}
	t.state.failures.Add(1)
	text := err.Error()
	t.state.lastError.Store(&text)
	if upgrade && !errors.Is(err, ErrUnreachable) {
		return p.report(t, err)
	}
	if f := t.state.health.failed(err, time.Now()); f != nil {
		p.set.fails(p.upstream.Name, t, f)
	}
	return p.report(t, err)
}

func (p *Pool) report(t *target, err error) error {
	if p.set.options.OnFailure != nil {
		p.set.options.OnFailure(p.upstream.Name, t.row.URL, Cause(err))
	}
	return err
}

// pick chooses among the targets that are ready and were not tried; among those that fail only if there is no other. It
// returns nil where there is none.
func (p *Pool) pick(tried []*target) *target {
	var room [16]*target
	for _, fails := range []bool{false, true} {
		among := room[:0]
		for _, t := range p.targets {
			if t.isReady() && t.fails() == fails && !slices.Contains(tried, t) {
				among = append(among, t)
			}
		}
		if t := choose(among); t != nil {
			return t
		}
	}
	return nil
}
