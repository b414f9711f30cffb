package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// After this time a measurement counts for a third (1/e) of what it did.
	latencyMemory = 10 * time.Second

	// What takes longer says more of the question, a long poll for instance, than of the target.
	longestLatency = time.Second
)

// latency is the time that a target takes to the first header of its answer: an average in which each measurement counts
// for less as time goes by. The zero value has none yet. Of measurements at the same moment one may be lost.
type latency struct{ last atomic.Pointer[measured] }

type measured struct {
	average time.Duration
	at      time.Time
}

func (l *latency) add(took time.Duration, now time.Time) {
	took = min(took, longestLatency)
	before := l.last.Load()
	if before == nil {
		l.last.CompareAndSwap(nil, &measured{took, now})
		return
	}
	kept := math.Exp(-max(0, now.Sub(before.at).Seconds()) / latencyMemory.Seconds())
	average := kept*before.average.Seconds() + (1-kept)*took.Seconds()
	l.last.CompareAndSwap(before, &measured{time.Duration(average * float64(time.Second)), now})
}

// forgotten is when an average says nothing any more: a target that is not chosen for it must not stay so for ever.
const forgotten = 3 * latencyMemory

// get returns the average; 0 means that nothing was measured of late.
func (l *latency) get(now time.Time) time.Duration {
	last := l.last.Load()
	if last == nil || now.Sub(last.at) > forgotten {
		return 0
	}
	return max(last.average, 1)
}
