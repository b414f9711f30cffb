package proxy

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimits bounds how many clients are remembered, at some 300 bytes each: whoever comes from more addresses than that
// fills no memory, but makes us forget the clients that have not come for longest.
const maxLimits = 1 << 16

// limits counts what clients do. The zero value is ready.
type limits struct {
	mu     sync.Mutex
	known  map[limitKey]*list.Element
	recent list.List // of *limit: who came last is first
}

// limitKey is a client and the guard that counts him.
type limitKey struct {
	guard  int64
	client netip.Addr
}

type limit struct {
	key     limitKey
	limiter *rate.Limiter
}

// take counts one, and returns 0; or, where that is too many, how long to wait until there is room for one.
func (l *limits) take(key limitKey, perSecond float64, burst int, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	reservation := l.limiter(key, perSecond, burst, now).ReserveN(now, 1)
	if wait = reservation.DelayFrom(now); wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

// left is take that does not count.
func (l *limits) left(key limitKey, perSecond float64, burst int, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known[key] == nil {
		return 0
	}
	missing := 1 - l.limiter(key, perSecond, burst, now).TokensAt(now)
	return time.Duration(max(0, missing) / perSecond * float64(time.Second))
}

// limiter returns the limiter of a client, with the limits as they are now.
func (l *limits) limiter(key limitKey, perSecond float64, burst int, now time.Time) *rate.Limiter {
	if l.known == nil {
		l.known = map[limitKey]*list.Element{}
	}
	if element := l.known[key]; element != nil {
		l.recent.MoveToFront(element)
		limiter := element.Value.(*limit).limiter
		if float64(limiter.Limit()) != perSecond || limiter.Burst() != burst {
			limiter.SetLimitAt(now, rate.Limit(perSecond))
			limiter.SetBurstAt(now, burst)
		}
		return limiter
	}
	if len(l.known) >= maxLimits {
		oldest := l.recent.Back()
		delete(l.known, l.recent.Remove(oldest).(*limit).key)
	}
	fresh := &limit{key, rate.NewLimiter(rate.Limit(perSecond), burst)}
	l.known[key] = l.recent.PushFront(fresh)
	return fresh.limiter
}
