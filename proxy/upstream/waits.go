package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// movesAfter is how long a request has waited when it is moved. What takes less is answered by a target that has only lost
	// some packets.
	movesAfter = time.Second

	// suspicious is how long a request waits until it is looked whether its target is there at all, which without other requests
	// nobody would notice. Many answers take as long: a connection is all that this costs.
	suspicious = 2 * time.Second
	looksAgain = 5 * time.Second
)

// errMoved is no timeout: as for a connection that broke, another target may do better.
var errMoved = errors.New("the target hangs, so the request goes to another")

// waits are the requests that wait for a target's answer to begin and may be sent to another. When the target is found to hang they
// are: a machine that is gone without a word would else hold them until vanished. The zero value is ready.
type waits struct {
	mu     sync.Mutex
	all    []*waiting
	looked time.Time // when it was looked last whether the target is there
}

// waiting is a request among waits. A nil one is not among them.
type waiting struct {
	among *waits
	other *alternative
	body  *keptBody // nil if it has none
	leave context.CancelCauseFunc
	since time.Time

	// What follows is guarded by among.mu.
	index int
	moved bool
}

// mayMove reports whether a request whose targets to try were counted may be sent to another while it waits.
func (p *Pool) mayMove(r *http.Request, w *wish) bool {
	return len(w.tried) < len(p.targets) && len(w.tried) <= p.upstream.Retries && isIdempotent(r.Method) && !isUpgrade(r)
}

// enter adds a request with what ends its attempt, and the alternative in ctx. Its end must be called.
func (w *waits) enter(ctx context.Context, mayMove bool, body *keptBody, idle *idle) *waiting {
	other, _ := ctx.Value(alternativeKey{}).(*alternative)
	if !mayMove || other == nil {
		return nil
	}
	one := &waiting{among: w, other: other, body: body, leave: idle.cancel, since: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	one.index = len(w.all)
	w.all = append(w.all, one)
	return one
}

// end takes a request out that waits no more, and returns what has become of it: nothing if it was moved.
func (o *waiting) end(response *http.Response, err error) (*http.Response, error) {
	if o == nil {
		return response, err
	}
	if !o.leaves() {
		return response, err
	}
	if err == nil { // the answer came at the same moment
		_ = response.Body.Close()
	}
	return nil, errMoved
}

// leaves takes the request out, and reports whether it was moved.
func (o *waiting) leaves() bool {
	o.among.mu.Lock()
	defer o.among.mu.Unlock()
	if !o.moved {
		o.among.remove(o)
	}
	return o.moved
}

// remove needs the lock.
func (w *waits) remove(one *waiting) {
	last := len(w.all) - 1
	w.all[one.index] = w.all[last]
	w.all[one.index].index = one.index
	w.all[last] = nil
	w.all = w.all[:last]
}

// move has those go elsewhere who have waited and can.
func (w *waits) move() {
	for _, one := range w.takeMovable(time.Now().Add(-movesAfter)) {
		one.leave(errMoved)
	}
}

func (w *waits) takeMovable(waitedSince time.Time) (list []*waiting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range slices.Clone(w.all) {
		if one.since.After(waitedSince) || !one.canMove() {
			continue
		}
		one.moved = true
		w.remove(one)
		list = append(list, one)
	}
	return list
}

// canMove reports whether another target can have the request, and all of its body. Then it must be moved: it was counted as a repeat.
func (o *waiting) canMove() bool {
	return o.other.exists() && o.body.isKept() && o.other.pool.repeats.spend() && o.body.recall()
}

// arouseSuspicion reports whether somebody waits for so long that it is to be looked whether the target is there; for a while then
// it does not.
func (w *waits) arouseSuspicion(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.looked) < looksAgain || !slices.ContainsFunc(w.all, func(o *waiting) bool { return now.Sub(o.since) >= suspicious }) {
		return false
	}
	w.looked = now
	return true
}

// heedWaits moves those who wait for a target that hangs, and were too many or too early when that was found; and looks at
// targets that are waited for, unless checks do.
func (s *Set) heedWaits(ctx context.Context, looks *sync.WaitGroup) {
	for _, p := range s.inUse() {
		for _, t := range p.targets {
			health := &t.state.health
			if f := health.failing.Load(); f != nil && f.hangs {
				t.state.waits.move()
			} else if f == nil && !health.checked.Load() && t.state.waits.arouseSuspicion(time.Now()) {
				looks.Go(func() { p.lookAt(ctx, t) })
			}
		}
	}
}

// inUse returns the pools that requests may have.
func (s *Set) inUse() []*Pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*Pool
	for _, g := range s.pools {
		list = append(list, g.current)
		if g.last != nil {
			list = append(list, g.last)
		}
	}
	return list
}

// lookAt counts it as a failure if no connection can be made; that one can says nothing of answers.
func (p *Pool) lookAt(ctx context.Context, t *target) {
	err := t.connections.try(ctx)
	if err == nil || ctx.Err() != nil {
		return
	}
	if f := t.state.health.failed(fmt.Errorf("%w: %w", ErrUnreachable, err), time.Now()); f != nil {
		p.set.fails(p.upstream.Name, t, f)
	}
}
