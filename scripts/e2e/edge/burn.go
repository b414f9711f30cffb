package main

import (
	"context"
	"flag"
	"io"
	"sync"
	"time"
)

// burnPeriod is long against what the kernel lets a process run on, and short against a measurement.
const burnPeriod = 10 * time.Millisecond

// runBurn uses so many processors, and does nothing: the control beside an attack.
func runBurn(ctx context.Context, args []string, _, stderr io.Writer) error {
	flags := flag.NewFlagSet("edge burn", flag.ContinueOnError)
	share := flags.Float64("share", 0.1, "of a processor; may be more than 1")
	lasting := flags.Duration("for", time.Second, "how long")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *lasting)
	defer cancel()
	var all sync.WaitGroup
	for left := *share; left > 0; left-- {
		all.Go(func() { burn(ctx, time.Duration(min(left, 1)*float64(burnPeriod))) })
	}
	all.Wait()
	return nil
}

// burn works for a part of each period.
func burn(ctx context.Context, part time.Duration) {
	for began := time.Now(); ctx.Err() == nil; began = time.Now() {
		for time.Since(began) < part {
		}
		wait(ctx, burnPeriod-time.Since(began))
	}
}

// wait waits; false if ctx has ended.
func wait(ctx context.Context, long time.Duration) bool {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
