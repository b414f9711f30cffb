package store

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"cutover/rules"
)

func TestARuleWhoseTimeHasNotComeEndsWhenTheClockIsSetBack(t *testing.T) {
	leakCheck(t)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s, err := Open(t.Context(), Options{Dir: t.TempDir(), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	})
	set(t, s, map[string]any{"host": "a.test", "percent": 100, "starts_at": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)})
	ahead.Store(int64(2 * time.Hour)) // a machine that starts with a wrong clock, until NTP has its say
	eventually(t, "the start", func() bool { return version(s, "a.test") == rules.V2 })
	ahead.Store(0)
	eventually(t, "the clock", func() bool { return version(s, "a.test") == rules.V1 })
}
