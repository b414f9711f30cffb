package store

import (
	"context"
	"errors"
	"sync"
	"time"
)

// gate lets edits through one beside the other, and an import alone. The zero gate is open.
type gate struct {
	mutex  sync.Mutex
	opened chan struct{} // closed when the gate opens again; nil while it is open
	inside int
	empty  chan struct{} // closed when the last edit has left; nil while nobody waits for that
}

var errImporting = errors.New("an import is being written, and edits wait for it: try again when it is done")

// enter waits until the gate is open, no longer than patience. Whoever has entered must leave.
func (g *gate) enter(ctx context.Context, patience time.Duration) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		g.mutex.Lock()
		opened := g.opened
		if opened == nil {
			g.inside++
		}
		g.mutex.Unlock()
		if opened == nil {
			return nil
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return errImporting
		}
	}
}

func (g *gate) leave() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// shut waits until nobody is inside, and lets nobody in until it is opened. Only one caller may have it shut.
func (g *gate) shut(ctx context.Context) error {
	g.mutex.Lock()
	g.opened = make(chan struct{})
	var empty chan struct{}
	if g.inside > 0 {
		g.empty = make(chan struct{})
		empty = g.empty
	}
	g.mutex.Unlock()
	if empty == nil {
		return nil
	}
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		g.open()
		return ctx.Err()
	}
}

func (g *gate) open() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	close(g.opened)
	g.opened, g.empty = nil, nil
}
