package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"cutover/proxy/fastcgi"
	"cutover/rules"
)

// Pool forwards to the targets of one upstream. It is an http.RoundTripper for requests whose URL has no scheme and
// host yet: those are the target's. It does not close a request's body: whoever made the request does.
type Pool struct {
	upstream *rules.Upstream
	targets  []*target
	set      *Set
	sought   sought
	*lasting

	storesBodies bool // of requests, before a target is picked
}

// lasting is what of an upstream outlives a change of its row.
type lasting struct {
	repeats *budget
	turns   turns
	line    line
	breaker breaker
	absent  absent
}

func newPool(u *rules.Upstream, last *Pool, s *Set) *Pool {
	p := &Pool{upstream: u, set: s, sought: s.options.seek(u), lasting: &lasting{repeats: newBudget(), absent: absent{}}}
	if last != nil {
		p.lasting = last.lasting
		p.absent.leave(last.targets, time.Now())
	}
	manner := mannerOf(u)
	for _, row := range p.sought.list {
		t, err := newTarget(row, p.absent[row.URL].target, manner, s.options)
		if err != nil {
			continue // rules.Target.Validate refuses such a row
		}
		t.line = &p.line
		p.targets = append(p.targets, t)
		p.storesBodies = p.storesBodies || t.connections.fastCGI != nil
	}
	s.takeBack(p, last)
	p.line.adopt(p)
	return p
}

// status is that of the upstream, without its targets.
func (p *Pool) status() Status {
	s := Status{Name: p.upstream.Name, Waiting: int(p.line.length.Load())}
	if o := p.breaker.state(); o != nil && p.upstream.Breaker.Percent > 0 {
		s.OpenSince, s.OpenBecause = o.since, o.why
	}
	return s
}

// has reports whether a target of the pool uses these connections.
func (p *Pool) has(c *connections) bool {
	return slices.ContainsFunc(p.targets, func(t *target) bool { return t.connections == c })
}

// knows reports whether a target of the pool has this state.
func (p *Pool) knows(of *state) bool {
	return slices.ContainsFunc(p.targets, func(t *target) bool { return t.state == of })
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
// since nothing was sent; and where a connection broke before an answer, if the request may be repeated, its body was kept, and
// not too many are. Where all targets have as many requests as they may, it waits for one.
// An error wraps ErrNoTarget, ErrFull, ErrQueueTimeout, ErrOpen, ErrUnreachable, or what broke the exchange off; see Cause and IsTimeout.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	p = p.awaited(r.Context())
	if p.mustStore(r) {
		return p.storeBody(r)
	}
	send := p.send
	if p.upstream.Breaker.Percent > 0 {
		send = p.guarded
	}
	response, err := send(r)
	if err != nil {
		return nil, fmt.Errorf("upstream %q: %w", p.upstream.Name, err)
	}
	return response, nil
}

func (p *Pool) send(r *http.Request) (*http.Response, error) {
	var room [4]*target
	w := p.wishOf(r.Context())
	w.tried = room[:0]
	body := p.keep(r)
	last := ErrNoTarget
	p.repeats.earn()
	for {
		t, err := p.take(r.Context(), &w)
		if err != nil {
			return nil, err
		}
		if t == nil {
			return nil, last
		}
		w.tried = append(w.tried, t)
		response, fate, err := p.attempt(t, r, &w, body)
		if err == nil {
			return response, nil
		}
		last = fmt.Errorf("target %s: %w", t.row.URL, err)
		if !p.goesOn(r, fate, err, len(w.tried), body) {
			return nil, last
		}
	}
}

// attempt sends a request to a target that was taken for it; its fate says something only if there is an error.
func (p *Pool) attempt(t *target, r *http.Request, w *wish, body *keptBody) (*http.Response, fate, error) {
	progress := &progress{}
	ctx, idle := p.withIdle(r.Context(), p.mayMove(r, w))
	ctx = p.withAlternative(ctx, w)
	out := r.WithContext(progress.follow(ctx, idle))
	if body != nil {
		// The transport closes a body even when it cannot connect; it must stay for the next target.
		out.Body = idle.upload(body.open())
		if t.connections.multiplexed != nil && !isUpgrade(r) {
			out.GetBody = again(out.Body) // a connection that others share may be given up at the moment when it is chosen
		}
	}
	t.state.requests.Add(1)
	if chosen := chosenTarget(ctx); chosen != nil {
		*chosen = t.row.URL
	}
	began := time.Now()
	waiting := t.state.waits.enter(ctx, p.mayMove(r, w), body, idle)
	response, err := waiting.end(t.connections.send(out))
	if err != nil {
		idle.over()
		err = p.failed(r, t, idle.explain(progress.explain(err)))
		t.giveBack()
		return nil, progress.fate(), err
	}
	if !fastcgi.IsOwn(response) {
		p.answered(t, response, began, body != nil)
	}
	response.Body = p.watched(r, t, response, idle)
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
func (p *Pool) failed(r *http.Request, t *target, err error) error {
	if r.Context().Err() != nil || isVisitors(err) {
		return err
	}
	t.state.failures.Add(1)
	text := err.Error()
	t.state.lastError.Store(&text)
	if isUpgrade(r) && !errors.Is(err, ErrUnreachable) {
		return p.report(t, err)
	}
	if errors.Is(err, errMoved) { // that it hangs is known
		return p.report(t, err)
	}
	if errors.Is(err, errHangs) {
		t.state.doubt(time.Now())
		t.line.lookAfter(doubted)
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

// pick chooses among the targets that are ready, have room and were not tried; among those that fail or are doubted only if there is no other,
// nor one without room. It returns nil where there is none, and whether that is for want of room.
func (p *Pool) pick(w *wish) (t *target, full bool) {
	var room [16]*target
	for _, avoided := range []bool{false, true} {
		among := room[:0]
		for _, t := range p.targets {
			switch {
			case !t.isReady() || t.isAvoided() != avoided || w.hasTried(t):
			case p.isFull(t):
				full = true
			default:
				among = append(among, t)
			}
		}
		if t := p.choose(among, w); t != nil {
			return t, false
		}
		if full {
			break
		}
	}
	return nil, full
}

func (p *Pool) isFull(t *target) bool {
	most := int64(p.upstream.MaxInFlight)
	return most > 0 && t.state.inFlight.Load() >= most
}
