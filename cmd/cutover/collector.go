package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// heapRoom is what the heap may grow to before it is collected, however little of it is in use. Go's runtime would collect 4 MiB
	// at a time, some hundred requests, which takes a tenth of the processor time under load.
	heapRoom = 32 << 20

	// A heap that has outgrown its room is collected when it has doubled, as Go's runtime does by itself.
	leastPercent, mostPercent = 100, 800

	lookAtHeap = time.Second
)

// collector has Go's runtime collect a small heap less often. Use its Run.
type collector struct {
	room    int64 // bytes
	percent int   // of what is in use, by which the heap may grow
}

// newCollector returns one that leaves most of a limit on memory alone; 0 is no limit.
func newCollector(limit int64) *collector {
	c := &collector{room: heapRoom, percent: leastPercent}
	if limit > 0 {
		c.room = min(c.room, limit/4)
	}
	return c
}

// Run follows the heap until ctx ends; then the runtime does as before. Whoever sets GOGC in the environment has decided otherwise.
func (c *collector) Run(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	before := debug.SetGCPercent(c.percent)
	defer debug.SetGCPercent(before)
	ticker := time.NewTicker(lookAtHeap)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			c.adapt(liveHeap())
		}
	}
}

// adapt stops the world for a moment if it changes anything, and so leaves alone what is about right.
func (c *collector) adapt(live int64) {
	percent := percentFor(live, c.room)
	if difference := percent - c.percent; difference*difference > (c.percent/8)*(c.percent/8) {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
}

// percentFor returns by how much a heap may grow that is to be collected when it fills its room.
func percentFor(live, room int64) int {
	if live <= 0 {
		return leastPercent // nothing was collected yet
	}
	return int(min(max(room*100/live-100, leastPercent), mostPercent))
}

// liveHeap returns what was in use at the last collection.
func liveHeap() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64()) //nolint:gosec // no heap has half of all addresses
}
