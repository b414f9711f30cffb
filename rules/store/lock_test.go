package store

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStartWaitsForRulesThatAnotherProcessHoldsForAMoment(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		verb, err := takeLock(dir)
		if err != nil {
			t.Fatal(err)
		}
		var daemon *os.File
		started := make(chan struct{})
		go func() {
			defer close(started)
			daemon, err = awaitLock(t.Context(), &Options{Dir: dir, LockPatience: time.Hour})
		}()
		synctest.Wait() // it has met the lock
		_ = verb.Close()
		<-started
		if err != nil {
			t.Fatalf("the daemon does not start: %v", err)
		}
		_ = daemon.Close()
	})
}

func TestAStartWaitsNoLongerThanItsPatienceAndItsContext(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		holder, err := takeLock(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = holder.Close() }()
		for _, patience := range []time.Duration{0, 5 * time.Second} {
			began := time.Now()
			_, err := awaitLock(t.Context(), &Options{Dir: dir, LockPatience: patience})
			if took := time.Since(began); !errors.Is(err, ErrLocked) || took != patience {
				t.Errorf("%v after %v instead of %v", err, took, patience)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := awaitLock(ctx, &Options{Dir: dir, LockPatience: time.Hour}); !errors.Is(err, ErrLocked) || !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	})
}

func TestADaemonMayOpenRulesThatAVerbHolds(t *testing.T) {
	dir := t.TempDir()
	verb, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	ends := time.AfterFunc(100*time.Millisecond, func() { closed <- verb.Close() })
	defer ends.Stop()
	daemon, err := Open(t.Context(), Options{Dir: dir, LockPatience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-closed, daemon.Close()); err != nil {
		t.Error(err)
	}
}
