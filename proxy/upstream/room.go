package upstream

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cutover/rules"
)

var (
	// ErrFull says that every target has as many requests as it may have, and that no more may wait.
	ErrFull = errors.New("every target has max_in_flight requests, and queue_length are waiting")
	// ErrQueueTimeout says that none of them had room for as long as a request may wait.
	ErrQueueTimeout = errors.New("no target had room within queue_timeout")
)

// defaultWait is queue_timeout where the row has none.
const defaultWait = 10 * time.Second

// take returns a target that counts the request as in flight from then on, until giveBack. Where all that may have it are full
// it waits in line. It returns nil without an error if there is none.
func (p *Pool) take(ctx context.Context, w *wish) (*target, error) {
	if p.upstream.MaxInFlight > 0 {
		return p.line.enter(ctx, p, w)
	}
	t, _ := p.pick(w)
	if t != nil {
		t.state.inFlight.Add(1)
	}
	return t, nil
}

// giveBack ends what take began.
func (t *target) giveBack() {
	t.state.inFlight.Add(-1)
	t.line.look()
}

// line is where requests wait for room, first come first served. It outlives changes of the row. The zero value is an empty one,
// to which a pool must be given by adopt.
type line struct {
	length atomic.Int64 // of waiting, for those who do not hold the lock

	mu      sync.Mutex
	waiting list.List // of *waiter
	pool    *Pool     // the newest: those who wait go to its targets
}

// waiter is a request in line.
type waiter struct {
	wish wish
	got  chan *target // gets one value, under the lock, when it is taken out; nil if there is no target for it
}

// adopt has those who wait go to another pool's targets.
func (l *line) adopt(p *Pool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pool = p
	l.serve()
}

// look is for when there may be room. It costs nothing while nobody waits. Nobody is overlooked: who comes into line looks once
// more himself after he is counted, and who gives back does so before he looks.
func (l *line) look() {
	if l == nil || l.length.Load() == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serve()
}

// lookAfter is for when there may be room after a time.
func (l *line) lookAfter(d time.Duration) {
	time.AfterFunc(d+time.Millisecond, l.look) // which never waits for long
}

// enter is take for targets with a limit.
func (l *line) enter(ctx context.Context, p *Pool, w *wish) (*target, error) {
	l.mu.Lock()
	l.serve() // who was here before comes first; who waits even then can have none of what there is room at
	if t, full := p.pick(w); !full {
		t.occupy()
		l.mu.Unlock()
		return t, nil
	}
	if l.waiting.Len() >= p.upstream.QueueLength {
		l.mu.Unlock()
		return nil, ErrFull
	}
	one := &waiter{wish: wish{slices.Clone(w.tried), w.visitor}, got: make(chan *target, 1)} // w itself stays on the stack of those who need not wait
	place := l.waiting.PushBack(one)
	l.length.Add(1)
	l.serve()
	l.mu.Unlock()
	return l.await(ctx, place, one, waitOf(&p.upstream.Room))
}

func waitOf(r *rules.Room) time.Duration {
	if r.QueueTimeout <= 0 {
		return defaultWait
	}
	return rules.Seconds(r.QueueTimeout)
}

// isCrowded reports whether no target has room now, and no more requests may wait for one.
func (p *Pool) isCrowded() bool {
	if p.upstream.MaxInFlight <= 0 || p.line.length.Load() < int64(p.upstream.QueueLength) {
		return false
	}
	isReady := func(t *target) bool { return t.isReady() }
	hasRoom := func(t *target) bool { return t.isReady() && !p.isFull(t) }
	return slices.ContainsFunc(p.targets, isReady) && !slices.ContainsFunc(p.targets, hasRoom)
}

// occupy counts a request; t may be nil.
func (t *target) occupy() {
	if t != nil {
		t.state.inFlight.Add(1)
	}
}

// serve takes out of the line whoever can have a target, or never will. It needs the lock.
func (l *line) serve() {
	for place := l.waiting.Front(); place != nil; {
		next := place.Next()
		one := place.Value.(*waiter)
		t, full := l.pool.pick(&one.wish)
		switch {
		case !full:
			t.occupy()
			l.remove(place)
			one.got <- t
		case len(one.wish.tried) == 0:
			return // it may have any: there is room for nobody
		}
		place = next
	}
}

// remove needs the lock.
func (l *line) remove(place *list.Element) {
	l.waiting.Remove(place)
	l.length.Add(-1)
}

// await waits until a request's turn has come, its visitor has left, or it has waited for long enough.
func (l *line) await(ctx context.Context, place *list.Element, one *waiter, atMost time.Duration) (*target, error) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	err := ErrQueueTimeout
	select {
	case t := <-one.got:
		return t, nil
	case <-timer.C:
	case <-ctx.Done():
		err = fmt.Errorf("in line for a target: %w", ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case t := <-one.got: // at the same moment
		return l.late(ctx, t, err)
	default:
		l.remove(place)
		return nil, err
	}
}

// late is for a request whose turn has come when it was about to leave. It needs the lock.
func (l *line) late(ctx context.Context, t *target, err error) (*target, error) {
	if ctx.Err() == nil {
		return t, nil
	}
	if t != nil {
		t.state.inFlight.Add(-1)
		l.serve()
	}
	return nil, err
}
