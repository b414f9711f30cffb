package upstream

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"cutover/rules"
)

const (
	failuresInARow = 3           // make a target failing; a connection that takes too long does so by itself
	firstPause     = time.Second // until a failing target is looked at
	longestPause   = 30 * time.Second
	forgetPauses   = 2 * time.Minute // without a failure the next pause is the first again
)

// health is what requests show of a target. A failing one gets no requests as long as another of its upstream does not fail;
// so the last one is never given up. The zero value is that of a target that does not fail.
type health struct {
	inARow     atomic.Int64
	failing    atomic.Pointer[fault]     // nil if it does not
	readmitted atomic.Pointer[time.Time] // nil if it never failed
	checked    atomic.Bool               // checks decide when it no longer fails

	mu        sync.Mutex // for changes of failing, and for what follows
	pauses    int        // in a row
	good, bad int        // checks in a row
	wasGood   bool       // one was, ever
}

// fault says since when a target fails, and why.
type fault struct {
	since time.Time
	why   string
	pause time.Duration // until it is looked at
	hangs bool          // it does not even refuse
}

// isHang reports whether a failure is that a target's machine, or all of the target, says nothing any more.
func isHang(err error) bool {
	return errors.Is(err, errHangs) || (errors.Is(err, ErrUnreachable) && IsTimeout(err))
}

// failed notes a failure, and returns what begins if it makes the target failing.
func (h *health) failed(err error, now time.Time) *fault {
	unreachable := errors.Is(err, ErrUnreachable)
	if h.inARow.Add(1) < failuresInARow && (!unreachable || !IsTimeout(err)) {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failing.Load() != nil {
		return nil
	}
	return h.begin(&fault{since: now, why: err.Error(), pause: h.nextPause(unreachable, now), hangs: isHang(err)})
}

// begin needs the lock.
func (h *health) begin(f *fault) *fault {
	h.good = 0
	h.failing.Store(f)
	return f
}

// look notes what a check has shown; nil is a good answer. It returns what begins or ends by it.
func (h *health) look(err error, check *rules.Check, now time.Time) (began, ended *fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	failing := h.failing.Load()
	if err != nil {
		h.good = 0
		h.bad++
		if failing == nil && (h.bad >= check.Fall || !h.wasGood) { // one that never was well is not given the benefit of the doubt
			began = h.begin(&fault{since: now, why: err.Error(), hangs: IsTimeout(err)})
		}
		return began, nil
	}
	h.bad, h.wasGood = 0, true
	h.good++
	if failing != nil && h.good >= check.Rise {
		ended = h.end(now)
	}
	return nil, ended
}

// nextPause doubles while failures come back soon. That a target can be reached is seen by trying, and so needs no patience;
// that it answers is not.
func (h *health) nextPause(unreachable bool, now time.Time) time.Duration {
	last := h.readmitted.Load()
	if unreachable || last == nil || now.Sub(*last) > forgetPauses {
		h.pauses = 0
		return firstPause
	}
	h.pauses = min(h.pauses+1, 10)
	return min(firstPause<<h.pauses, longestPause)
}

// succeeded notes an answer to a request that began at a time. It returns what has ended by it, if anything has: a failing
// target gets requests only if all others fail, too.
func (h *health) succeeded(began, now time.Time) *fault {
	if h.inARow.Load() != 0 {
		h.inARow.Store(0)
	}
	if f := h.failing.Load(); f != nil && began.After(f.since) && !h.checked.Load() {
		return h.readmit(now)
	}
	return nil
}

// readmit ends a fault, and returns it; nil if there was none.
func (h *health) readmit(now time.Time) *fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.end(now)
}

// end needs the lock.
func (h *health) end(now time.Time) *fault {
	f := h.failing.Load()
	if f == nil {
		return nil
	}
	h.inARow.Store(0)
	h.readmitted.Store(&now)
	h.failing.Store(nil)
	return f
}

// rampUp is the part of its share, above 0 to 1, that a target gets so soon after it has failed.
func (h *health) rampUp(now time.Time) float64 {
	last := h.readmitted.Load()
	if last == nil || now.Sub(*last) >= slowStart {
		return 1
	}
	return max(0.1, now.Sub(*last).Seconds()/slowStart.Seconds())
}
