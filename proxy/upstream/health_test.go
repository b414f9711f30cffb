package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errRefused = fmt.Errorf("%w: refused", ErrUnreachable)
	errTooLong = fmt.Errorf("%w: %w", ErrUnreachable, os.ErrDeadlineExceeded)
	errBroken  = errors.New("reset")
)

func TestATargetFailsAfterThreeFailuresInARowOrOneConnectionThatTakesTooLong(t *testing.T) {
	now := time.Now()
	var h health
	for n, row := range []struct {
		err    error
		begins bool
	}{{errRefused, false}, {errBroken, false}, {errRefused, true}, {errRefused, false}} {
		if got := h.failed(row.err, now) != nil; got != row.begins {
			t.Errorf("failure %d: begins %v", n+1, got)
		}
	}
	if h = (health{}); h.failed(errTooLong, now) == nil {
		t.Error("a black hole is asked again")
	}
	h = health{}
	for range 10 {
		for range failuresInARow - 1 {
			if h.failed(errBroken, now) != nil {
				t.Error("failures are added up though there are answers between them")
			}
		}
		h.succeeded(now, now)
	}
}

func TestAnAnswerToAnOldRequestDoesNotEndAFault(t *testing.T) {
	now := time.Now()
	var h health
	h.failed(errTooLong, now)
	if h.succeeded(now.Add(-time.Second), now) != nil {
		t.Error("it does")
	}
	if h.succeeded(now.Add(time.Second), now.Add(2*time.Second)) == nil || h.failing.Load() != nil {
		t.Error("one to a new request does not")
	}
}

func TestATargetThatCanBeReachedButFailsAgainAndAgainIsLookedAtLessOften(t *testing.T) {
	now := time.Now()
	var h health
	fail := func(err error) (f *fault) {
		for f == nil {
			f = h.failed(err, now)
		}
		return f
	}
	var pauses []time.Duration
	for range 7 {
		pauses = append(pauses, fail(errBroken).pause/time.Second)
		now = now.Add(time.Minute)
		h.readmit(now)
	}
	if got := fmt.Sprint(pauses); got != "[1ns 2ns 4ns 8ns 16ns 30ns 30ns]" {
		t.Errorf("it pauses for %s (seconds)", got)
	}
	if got := fail(errRefused).pause; got != firstPause {
		t.Errorf("one that cannot be reached pauses for %v", got)
	}
	h.readmit(now)
	now = now.Add(forgetPauses + time.Second)
	if got := fail(errBroken).pause; got != firstPause {
		t.Errorf("after a good time it pauses for %v", got)
	}
}

// runSet runs a set until the test ends.
func runSet(t *testing.T, o Options) *Set {
	t.Helper()
	s := newSet(t, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// fails asks until a target fails, and returns how many requests that took.
func fails(t *testing.T, p *Pool, target int) (requests int) {
	t.Helper()
	for ; !p.targets[target].fails(); requests++ {
		if text, err := do(t.Context(), t, p, http.MethodGet, ""); err != nil || text != "ok" {
			t.Fatalf("%q, %v", text, err)
		}
		if requests > 1000 {
			t.Fatal("it never fails")
		}
	}
	return requests
}

func TestATargetThatFailsGetsNoRequestsUntilItCanBeReachedAgain(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	good := newScript(t)
	set := runSet(t, Options{})
	p := set.For(upstreamOf("http://"+address, good.URL))
	fails(t, p, 0)
	asked := p.targets[0].state.requests.Load()
	for range 50 {
		if _, err := do(t.Context(), t, p, http.MethodPost, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if now := p.targets[0].state.requests.Load(); now != asked || asked != failuresInARow {
		t.Errorf("it was asked %d times until it failed, and %d times since", asked, now-asked)
	}
	if status := set.Status()[0].Targets[0]; status.FailingSince.IsZero() || status.LastError == "" {
		t.Errorf("%+v", status)
	}
	back := serveOn(t, address)
	eventually(t, "requests again", func() bool {
		if _, err := do(t.Context(), t, p, http.MethodGet, ""); err != nil {
			t.Fatal(err)
		}
		return back.requests.Load() > 0
	})
	if status := set.Status()[0].Targets[0]; !status.FailingSince.IsZero() || status.Latency <= 0 {
		t.Errorf("%+v", status)
	}
}

func TestTheLastTargetsAreAskedThoughAllFail(t *testing.T) {
	a, b := newScript(t), newScript(t)
	p := newSet(t, Options{}).For(upstreamOf(a.URL, b.URL)) // nobody probes
	for _, one := range p.targets {
		one.state.health.failed(errTooLong, time.Now())
	}
	if _, err := do(t.Context(), t, p, http.MethodPost, "x"); err != nil {
		t.Fatal(err)
	}
	if p.targets[0].fails() == p.targets[1].fails() {
		t.Error("the one that answered still fails, or the other no longer does")
	}
}

func TestAProbeEndsWithItsTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSet(Options{})
		p := s.For(upstreamOf("http://127.0.0.1:1"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		f := p.targets[0].state.health.failed(errTooLong, time.Now())
		s.fails("v1", p.targets[0], f)
		s.Keep(nil)
		time.Sleep(firstPause)
		synctest.Wait() // and all that Run started has ended, or the end of the test says so
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestATargetThatWasRemovedIsForgottenThoughNobodyAsksForItsUpstream(t *testing.T) {
	s, current := watched(t, upstreamOf("http://127.0.0.1:1"))
	gone := current.Load()
	s.fails("v1", s.For(gone).targets[0], s.For(gone).targets[0].state.health.failed(errTooLong, time.Now()))
	current.Store(upstreamOf("http://127.0.0.1:2"))
	eventually(t, "it to be forgotten", func() bool {
		status := s.Status()[0].Targets
		return len(status) == 1 && status[0].FailingSince.IsZero()
	})
}

func TestNoVisitorMakesATargetFailByAskingForAnotherProtocol(t *testing.T) {
	bad, good := newScript(t), newScript(t)
	bad.always.Store(true)
	good.always.Store(true)
	p := newSet(t, Options{}).For(upstreamOf(bad.URL, good.URL))
	for range 5 * failuresInARow {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
		if response, err := p.RoundTrip(r); err == nil {
			_ = response.Body.Close()
			t.Error("a target answers that should not")
		}
	}
	if p.targets[0].fails() || p.targets[1].fails() {
		t.Error("a target fails")
	}
	if sent := bad.requests.Load() + good.requests.Load(); sent != 5*failuresInARow {
		t.Errorf("%d requests came", sent)
	}
}

func TestARequestThatMayBeRepeatedIsSentToAnotherTargetIfTheFirstBreaksOff(t *testing.T) {
	bad, good := newScript(t), newScript(t)
	bad.always.Store(true)
	p := newSet(t, Options{}).For(upstreamOf(bad.URL, good.URL))
	if n := fails(t, p, 0); n < 3 {
		t.Errorf("it failed after %d requests", n)
	}
	if bad.requests.Load() != failuresInARow {
		t.Errorf("it got %d requests", bad.requests.Load())
	}
}

func TestNoMoreThanAFifthOfTheRequestsIsSentTwice(t *testing.T) {
	bad, good := newScript(t), newScript(t)
	bad.always.Store(true)
	p := newSet(t, Options{}).For(upstreamOf(bad.URL, good.URL))
	p.repeats.hundredths.Store(0)
	sent := 0
	for n := range 60 {
		p.targets[0].state.health = health{} // it never fails for long
		if _, err := do(t.Context(), t, p, http.MethodGet, ""); err == nil {
			continue
		}
		sent = n
	}
	if sent == 0 {
		t.Error("every request that broke off was sent again")
	}
	if repeated := int(bad.requests.Load()+good.requests.Load()) - 60; repeated > 12 {
		t.Errorf("%d of 60 were sent twice", repeated)
	}
}

func TestNoSafeRequestFailsWhileOneOfThreeTargetsBreaksDownUnderLoad(t *testing.T) {
	for name, trouble := range map[string]func(*testing.T, *script) string{
		"its connections break and it refuses others": func(_ *testing.T, s *script) string { s.CloseClientConnections(); _ = s.Listener.Close(); return s.URL },
		"it breaks off every request":                 func(_ *testing.T, s *script) string { s.always.Store(true); return s.URL },
		"it lets nobody connect":                      func(t *testing.T, _ *script) string { return blackHole(t) },
	} {
		t.Run(name, func(t *testing.T) {
			bad, a, b := newScript(t), newScript(t), newScript(t)
			set := runSet(t, Options{DialTimeout: 300 * time.Millisecond})
			var pool atomic.Pointer[Pool]
			pool.Store(set.For(upstreamOf(bad.URL, a.URL, b.URL)))
			var failed, done atomic.Int64
			var visitors sync.WaitGroup
			stop := make(chan struct{})
			for range 8 {
				visitors.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if text, err := do(context.WithoutCancel(t.Context()), t, pool.Load(), http.MethodGet, ""); err != nil || text != "ok" {
							t.Errorf("%q, %v", text, err)
							failed.Add(1)
						}
						done.Add(1)
					}
				})
			}
			eventually(t, "load", func() bool { return done.Load() > 200 })
			pool.Store(set.For(upstreamOf(trouble(t, bad), a.URL, b.URL)))
			eventually(t, "the fault", func() bool { return pool.Load().targets[0].fails() })
			enough := done.Load() + 200
			eventually(t, "more load", func() bool { return done.Load() > enough })
			close(stop)
			visitors.Wait()
			if failed.Load() > 0 {
				t.Errorf("%d of %d requests failed", failed.Load(), done.Load())
			}
		})
	}
}
