package upstream

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// hesitation is how long a connection may take before another target gets the request, as nothing was sent: the time that
	// Happy Eyeballs (RFC 8305 §5) gives an address. One that is known to take longer gets four times of what it takes, since TLS
	// is to come.
	hesitation = 250 * time.Millisecond

	// hesitationTLS is the same for the handshake that follows, in which a target that is busy has something to compute.
	hesitationTLS = time.Second

	// doubted is for how long a target gets no requests, while others can have them, after a connection to it hung.
	doubted = time.Second
)

var errHangs = errors.New("connecting takes long, so the request goes to another target")

// alternative says whether a request can go to another target than the one that it was given.
type alternative struct {
	pool  *Pool
	tried []*target
}

type alternativeKey struct{}

// withAlternative lets dial give up early where another target is there.
func (p *Pool) withAlternative(ctx context.Context, w *wish) context.Context {
	if len(w.tried) >= len(p.targets) || len(w.tried) > p.upstream.Retries {
		return ctx
	}
	return context.WithValue(ctx, alternativeKey{}, &alternative{p, slices.Clone(w.tried)})
}

// exists reports whether there is a target that is well, has room, and was not tried.
func (a *alternative) exists() bool {
	w := wish{tried: a.tried}
	return slices.ContainsFunc(a.pool.targets, func(t *target) bool {
		return t.isReady() && !t.isAvoided() && !w.hasTried(t) && !a.pool.isFull(t)
	})
}

// hesitantly returns a context for making a connection, which ends early if that hangs and the request can go elsewhere; explain
// says so. The caller calls stop.
func (c *connections) hesitantly(ctx context.Context, patience time.Duration) (hesitant context.Context, stop func()) {
	other, _ := ctx.Value(alternativeKey{}).(*alternative)
	if other == nil {
		return ctx, func() {}
	}
	hesitant, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(patience, func() {
		if other.exists() {
			cancel(errHangs)
		}
	})
	return hesitant, func() {
		timer.Stop()
		cancel(nil)
	}
}

func (c *connections) hesitation() time.Duration {
	return max(hesitation, 4*time.Duration(c.usually.Load()))
}

func (c *connections) hesitationTLS() time.Duration {
	return max(hesitationTLS, 4*time.Duration(c.securing.Load()))
}

// note averages how long something takes. Of those at the same moment some may be lost.
func note(usually *atomic.Int64, took time.Duration) {
	before := time.Duration(usually.Load())
	if before == 0 {
		before = took
	}
	usually.Store(int64((3*before + took) / 4))
}

func (s *state) doubt(now time.Time) { s.doubtedUntil.Store(now.Add(doubted).UnixNano()) }

// isAvoided reports whether others are asked before this one.
func (t *target) isAvoided() bool {
	if t.fails() {
		return true
	}
	until := t.state.doubtedUntil.Load()
	return until != 0 && time.Now().UnixNano() < until
}
