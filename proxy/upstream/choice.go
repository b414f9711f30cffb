package upstream

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"cutover/rules"
)

// wish is what a request wants of a pool: a target to which it was not sent yet.
type wish struct {
	tried   []*target
	visitor *[16]byte // whom the target is chosen for; nil if that does not matter
}

// hasTried goes by the state: a target may have become another when the row of its upstream changed.
func (w *wish) hasTried(t *target) bool {
	return slices.ContainsFunc(w.tried, func(other *target) bool { return other.state == t.state })
}

type visitorKey struct{}

// WithVisitor returns a context by which RoundTrip knows the visitor, for upstreams where NeedsVisitor says so. The id must be
// as good as random.
func WithVisitor(ctx context.Context, id [16]byte) context.Context {
	return context.WithValue(ctx, visitorKey{}, &id)
}

// NeedsVisitor reports whether the targets of an upstream are chosen by the visitor.
func NeedsVisitor(u *rules.Upstream) bool { return u.Balance == rules.BalanceVisitorHash }

func (p *Pool) wishOf(ctx context.Context) wish {
	if !NeedsVisitor(p.upstream) {
		return wish{}
	}
	id, _ := ctx.Value(visitorKey{}).(*[16]byte)
	return wish{visitor: id}
}

// choose returns one of several targets, in the manner that the row says; nil if there is none. Every weight is above 0.
func (p *Pool) choose(among []*target, w *wish) *target {
	switch {
	case len(among) == 0:
		return nil
	case len(among) == 1:
		return among[0]
	case p.upstream.Balance == rules.BalanceRoundRobin:
		return p.turns.next(among)
	case p.upstream.Balance == rules.BalanceLeastConnections:
		return leastBusy(among)
	case w.visitor != nil:
		return favourite(among, *w.visitor)
	}
	return choose(among)
}

// turns has targets come one after the other. The zero value is ready. It outlives changes of the row.
type turns struct{ mu sync.Mutex }

// next is smooth weighted round robin, as nginx does it: each target gets credit for its share, and whoever has most pays for
// all. So heavy targets are not asked many times in a row.
func (s *turns) next(among []*target) *target {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	best, total := among[0], 0.0
	for _, t := range among {
		share := t.share(now)
		t.state.credit += share
		total += share
		if t.state.credit > best.state.credit {
			best = t
		}
	}
	best.state.credit -= total
	return best
}

// leastBusy returns the target with the fewest requests in flight for its share, counting the one that is to come; one of them
// at random if there are several.
func leastBusy(among []*target) *target {
	now := time.Now()
	best, alike, least := among[0], 0, math.Inf(1)
	for _, t := range among {
		load := float64(t.state.inFlight.Load()+1) / t.share(now)
		switch {
		case load < least:
			best, alike, least = t, 1, load
		case load == least:
			if alike++; rand.N(alike) == 0 {
				best = t
			}
		}
	}
	return best
}

// favourite returns the first target in a visitor's own order of them (weighted rendezvous hashing: Thaler and Ravishankar,
// 1998). Who comes and who goes moves only the visitors whose first it is, whatever process asks.
func favourite(among []*target, visitor [16]byte) *target {
	now := time.Now()
	id := binary.LittleEndian.Uint64(visitor[:8]) ^ binary.LittleEndian.Uint64(visitor[8:])
	best, highest := among[0], -1.0
	for _, t := range among {
		drawn := (float64(scatter(id^t.spot)>>11) + 0.5) / (1 << 53) // above 0, below 1
		if score := -t.share(now) / math.Log(drawn); score > highest {
			best, highest = t, score
		}
	}
	return best
}

// spotOf is where a target stands for favourite: the same in every process.
func spotOf(url string) uint64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(url)) // never fails
	return scatter(hash.Sum64())
}

// scatter is the finaliser of SplitMix64: every bit of the result depends on every bit of n.
func scatter(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
