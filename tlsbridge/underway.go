package tlsbridge

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// underway keeps account of work that is done on connections, each in a goroutine of its own.
type underway struct {
	mu   sync.Mutex
	open map[chan struct{}]struct{} // of each piece of work: it is closed at the end
}

// begin does the work in a goroutine and returns at once.
func (u *underway) begin(work func()) {
	done := make(chan struct{})
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.open == nil {
		u.open = map[chan struct{}]struct{}{}
	}
	u.open[done] = struct{}{}
	go func() {
		defer u.ended(done)
		work()
	}()
}

func (u *underway) ended(done chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.open, done)
	close(done)
}

// Pending counts what is under way.
func (u *underway) Pending() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.open)
}

// Wait waits for what is under way, until ctx ends. More may begin meanwhile, and is not waited for.
func (u *underway) Wait(ctx context.Context) error {
	u.mu.Lock()
	open := slices.Collect(maps.Keys(u.open))
	u.mu.Unlock()
	for _, done := range open {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
