package main

import (
	"context"
	"runtime/debug"
	"testing"
)

func TestASmallHeapMayFillItsRoomAndALargeOneDouble(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		live, room int64
		want       int
	}{
		{0, 32 * mb, 100},
		{1, 32 * mb, 800},
		{4 * mb, 32 * mb, 700},
		{8 * mb, 32 * mb, 300},
		{16 * mb, 32 * mb, 100},
		{1 << 40, 32 * mb, 100},
		{8 * mb, 0, 100},
	} {
		if got := percentFor(c.live, c.room); got != c.want {
			t.Errorf("%d of %d: %d %%, want %d", c.live, c.room, got, c.want)
		}
	}
}

func TestTheRoomOfAHeapIsAQuarterOfTheMemoryAtMost(t *testing.T) {
	for limit, want := range map[int64]int64{0: heapRoom, leastMemory: leastMemory / 4, 1 << 40: heapRoom} {
		if got := newCollector(limit).room; got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
	}
}

func TestTheRuntimeCollectsAsBeforeOnceTheCollectorEnds(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(123)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newCollector(0).Run(ctx); err != nil {
		t.Error(err)
	}
	if got := debug.SetGCPercent(123); got != 123 {
		t.Error(got)
	}
}

func TestWhatIsAboutRightIsLeftAlone(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	c := newCollector(0)
	for _, step := range []struct {
		live int64
		want int
	}{{8 << 20, 300}, {8<<20 + 100<<10, 300}, {9 << 20, 255}, {100 << 20, 100}} {
		if c.adapt(step.live); c.percent != step.want {
			t.Errorf("%d: %d %%, want %d", step.live, c.percent, step.want)
		}
	}
	if got := debug.SetGCPercent(100); got != 100 {
		t.Error(got)
	}
}
