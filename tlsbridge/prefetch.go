package tlsbridge

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Queue keeps the names that are to have a certificate before anybody asks for them. All processes on the same storage may
// share it: each name is ordered once, by whoever is there first.
type Queue interface {
	// Add puts names into the queue, also those that were in it before. A batch is a number that is larger than any before.
	Add(ctx context.Context, batch int64, names []string) error
	// Pending lists the names that are still to be done, the oldest first.
	Pending(ctx context.Context, batch int64) ([]string, error)
	// Queued reports whether a name is still to be done.
	Queued(ctx context.Context, name string) (bool, error)
	// Remove takes names out that are still to be done, and returns which of them were not there.
	Remove(ctx context.Context, names []string) (missing []string, err error)
	// RemoveAll takes out all that are still to be done, and counts them.
	RemoveAll(ctx context.Context) (int, error)
	// Finish notes that a name is done, or why it never will be.
	Finish(ctx context.Context, name, failure string) error
	// Finished counts the names that are done, and those that never will be.
	Finished(ctx context.Context, batch int64) (done, failed int, err error)
}

// PrefetchStatus says how far the names of a batch, or all of them, are.
type PrefetchStatus struct {
	Done    int
	Queued  int
	Failed  int       // never to be done: no rule names them any more
	Waiting []Attempt // of the queued ones, those that failed and are tried again later; the first hundred
	Late    int       // how many wait so
	Next    []string  // of the queued ones, those that go next; the first hundred
	Until   time.Time // when the budget has room again, if it has none
	Reason  string    // why it has none, or why the CA is not asked
}

const (
	prefetchAtOnce  = 4 // the other slots are for visitors
	prefetchLook    = time.Minute
	prefetchSoonest = time.Second
	maxWaiting      = 100
)

var (
	errNoQueue = errors.New("there is no queue for certificates")
	errNoSlot  = errors.New("it is being issued already, or too many others are")
)

// spareKey marks orders that leave a part of the budget to others.
type spareKey struct{}

// Prefetch queues names, and returns the number of their batch; with one of before they are added to that. It returns at once:
// Run works the queue off.
func (c *Certificates) Prefetch(ctx context.Context, batch int64, names []string) (int64, error) {
	if c.options.Queue == nil {
		return 0, errNoQueue
	}
	if batch == 0 {
		batch = time.Now().UnixMilli()
	}
	if err := c.options.Queue.Add(ctx, batch, names); err != nil {
		return 0, err
	}
	c.lookAtQueue()
	return batch, nil
}

// CancelPrefetch takes names out of the queue, and returns those that were not in it. What is being ordered goes on.
func (c *Certificates) CancelPrefetch(ctx context.Context, names []string) (missing []string, err error) {
	if c.options.Queue == nil {
		return nil, errNoQueue
	}
	return c.options.Queue.Remove(ctx, names)
}

// CancelAllPrefetch takes all names out of the queue, and returns how many.
func (c *Certificates) CancelAllPrefetch(ctx context.Context) (int, error) {
	if c.options.Queue == nil {
		return 0, errNoQueue
	}
	return c.options.Queue.RemoveAll(ctx)
}

// lookAtQueue has the queue looked at now.
func (c *Certificates) lookAtQueue() {
	select {
	case c.kick <- struct{}{}:
	default: // somebody else has asked for it
	}
}

// Prefetched says how far a batch is; 0 stands for all of them.
func (c *Certificates) Prefetched(ctx context.Context, batch int64) (status PrefetchStatus, err error) {
	if c.options.Queue == nil {
		return status, errNoQueue
	}
	pending, err := c.options.Queue.Pending(ctx, batch)
	if err != nil {
		return status, err
	}
	if status.Done, status.Failed, err = c.options.Queue.Finished(ctx, batch); err != nil {
		return status, err
	}
	status.Queued = len(pending)
	for _, name := range pending {
		last, waits := c.back.holds(name)
		if !waits {
			if len(status.Next) < maxWaiting {
				status.Next = append(status.Next, name)
			}
			continue
		}
		if status.Late++; len(status.Waiting) < maxWaiting {
			status.Waiting = append(status.Waiting, last)
		}
	}
	if status.Queued > status.Late {
		status.Until, status.Reason = c.whyNot(pending)
	}
	return status, nil
}

// whyNot says what the queue waits for.
func (c *Certificates) whyNot(pending []string) (until time.Time, reason string) {
	var down *outageError
	if errors.As(c.outage.waits(), &down) {
		return down.until, down.Error()
	}
	if paused := c.pausedBy(); time.Now().Before(paused.Until) {
		return paused.Until, paused.Reason
	}
	for _, name := range pending {
		var full *budgetError
		if !errors.As(c.budget.holds(name), &full) {
			return time.Time{}, "" // there is one that may go on
		}
		if until.IsZero() || full.hold.Until.Before(until) {
			until, reason = full.hold.Until, full.hold.Reason
		}
	}
	return until, reason
}

// workOff works the queue off until ctx ends.
func (c *Certificates) workOff(ctx context.Context) {
	if c.options.Queue == nil || c.options.Issuer == IssuerOff {
		return
	}
	for ctx.Err() == nil {
		timer := time.NewTimer(jittered(c.workOffOnce(ctx)))
		select {
		case <-timer.C:
		case <-c.kick:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// workOffOnce tries every name that may be tried, and returns how long to wait for the next time.
func (c *Certificates) workOffOnce(ctx context.Context) time.Duration {
	if !c.options.Active() {
		return prefetchSoonest
	}
	names, err := c.options.Queue.Pending(ctx, 0)
	if err != nil {
		c.options.Log.Warn("the queue of certificates cannot be read", slog.Any("error", err))
		return prefetchLook
	}
	var running sync.WaitGroup
	turn := make(chan struct{}, prefetchAtOnce)
	for _, name := range names {
		turn <- struct{}{}
		if ctx.Err() != nil || !c.options.Active() || time.Now().Before(c.pausedBy().Until) || c.outage.waits() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-turn }()
			c.prefetchOne(ctx, name)
		})
	}
	running.Wait()
	if wait := time.Until(c.pausedBy().Until); wait > 0 {
		return min(max(wait, prefetchSoonest), prefetchLook)
	}
	return prefetchLook
}

// pause has the queue wait for the account's budget.
func (c *Certificates) pause(h BudgetHold) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = h
}

// pausedBy returns what the queue waits for; its time is past where it need not wait.
func (c *Certificates) pausedBy() BudgetHold {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused
}

// prefetchOne gets one name's certificate, if it may be had now. If not, the name stays in the queue.
func (c *Certificates) prefetchOne(ctx context.Context, name string) {
	switch {
	case c.Ready(name):
		c.finish(ctx, name, "")
	case !c.allowed(name):
		c.finish(ctx, name, c.whyNotAllowed(name).Error())
	case c.mayOrder(name) == nil && !c.cancelled(ctx, name):
		err := c.obtainSpare(ctx, name)
		var full *budgetError
		if errors.As(err, &full) && full.hold.Key == c.budget.key(keyAccount, "") {
			c.pause(full.hold)
		}
		if err == nil {
			c.finish(ctx, name, "")
		}
	}
}

// cancelled reports whether somebody took a name out of the queue after it was read. If that cannot be told, nobody did.
func (c *Certificates) cancelled(ctx context.Context, name string) bool {
	queued, err := c.options.Queue.Queued(ctx, name)
	return err == nil && !queued
}

func (c *Certificates) finish(ctx context.Context, name, failure string) {
	if err := c.options.Queue.Finish(context.WithoutCancel(ctx), name, failure); err != nil {
		c.options.Log.Warn("the queue of certificates cannot be written; the name is looked at again", slog.String("name", name), slog.Any("error", err))
	}
}

// obtainSpare is obtain for the queue, which leaves a part of the budget to visitors.
func (c *Certificates) obtainSpare(ctx context.Context, name string) error {
	if _, begun := c.begin(name); !begun {
		return errNoSlot
	}
	defer c.done(name)
	return c.obtain(context.WithValue(ctx, spareKey{}, true), name)
}
