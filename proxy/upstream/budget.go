package upstream

import "sync/atomic"

const (
	repeatsPerRequest = 20  // hundredths
	fewestRepeats     = 10  // may be made before any request has come
	mostRepeats       = 100 // saved up
)

// budget keeps the requests that are sent a second time to a fifth of all, so that an upstream in trouble does not get more
// to do for it. Use newBudget.
type budget struct{ hundredths atomic.Int64 }

func newBudget() *budget {
	b := &budget{}
	b.hundredths.Store(fewestRepeats * 100)
	return b
}

func (b *budget) earn() {
	if b.hundredths.Load() < mostRepeats*100 {
		b.hundredths.Add(repeatsPerRequest)
	}
}

// spend reports whether a request may be repeated.
func (b *budget) spend() bool {
	if b.hundredths.Add(-100) >= 0 {
		return true
	}
	b.hundredths.Add(100)
	return false
}
