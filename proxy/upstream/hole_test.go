package upstream

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// forEver is a connect_timeout that no test lives to see.
const forEver = time.Hour

func TestNobodyWaitsForAConnectionThatHangsWhileAnotherTargetIsThere(t *testing.T) {
	hole, good := blackHole(t), newScript(t)
	set := newSet(t, Options{DialTimeout: forEver})
	p := set.For(upstreamOf(hole, good.URL))
	for set.Status()[0].Targets[0].Requests == 0 { // which one is asked first is drawn
		if text, err := do(t.Context(), t, p, http.MethodPost, "x"); err != nil || text != "ok" {
			t.Fatalf("%q, %v", text, err)
		}
	}
	if s := set.Status()[0].Targets[0]; s.Failures != 1 || s.InFlight != 0 || !s.FailingSince.IsZero() {
		t.Errorf("%+v", s)
	}
	for range 20 { // within the second in which it is left alone, or not: nobody waits
		if text, err := do(t.Context(), t, p, http.MethodGet, ""); err != nil || text != "ok" {
			t.Fatalf("%q, %v", text, err)
		}
	}
}

func TestTheLastTargetIsWaitedForHoweverLongItsConnectionTakes(t *testing.T) {
	for name, targets := range map[string][]string{"alone": {blackHole(t)}, "the other refuses": {blackHole(t), dead(t).URL}} {
		u := upstreamOf(targets...)
		u.Timeouts.Connect = 1
		began := time.Now()
		_, err := do(t.Context(), t, newSet(t, Options{}).For(u), http.MethodGet, "")
		if took := time.Since(began); Cause(err) != "dial" || took < hesitation {
			t.Errorf("%s: %v after %v", name, err, took)
		}
	}
}

func TestWithoutRetriesAConnectionIsWaitedFor(t *testing.T) {
	u := upstreamOf(blackHole(t), blackHole(t))
	u.Retries, u.Timeouts.Connect = 0, 0.5
	if _, err := do(t.Context(), t, newSet(t, Options{}).For(u), http.MethodGet, ""); !IsTimeout(err) {
		t.Errorf("got %v", err)
	}
}

func TestATargetThatIsDoubtedIsLeftAloneForASecondAndFailsTheThirdTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewSet(Options{}).For(balanced("", 1, 1))
		one := p.targets[0]
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		for n := range failuresInARow {
			if one.fails() {
				t.Fatalf("it fails after %d", n)
			}
			_ = p.failed(r, one, errHangs)
			if slices.Contains(taken(t, p, 50), one.row.URL) {
				t.Error("it is asked at once")
			}
			time.Sleep(doubted)
		}
		if !one.fails() {
			t.Error("it does not fail")
		}
	})
}

func TestADoubtedTargetIsAskedIfThereIsNoOther(t *testing.T) {
	p := newSet(t, Options{}).For(balanced("", 1, 1))
	p.targets[0].state.doubt(time.Now())
	p.targets[1].state.health.failed(errTooLong, time.Now())
	if got := count(taken(t, p, 100)); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func TestATargetThatIsFarAwayIsGivenTheTimeThatItTakes(t *testing.T) {
	var c connections
	if c.hesitation() != hesitation {
		t.Errorf("at first %v", c.hesitation())
	}
	note(&c.usually, time.Millisecond)
	if c.hesitation() != hesitation {
		t.Errorf("near by %v", c.hesitation())
	}
	for range 20 {
		note(&c.usually, 300*time.Millisecond)
	}
	if got := c.hesitation(); got < time.Second || got > 1200*time.Millisecond {
		t.Errorf("far away %v", got)
	}
}

func TestNoSafeRequestFailsOrWaitsForLongWhileOneOfThreeTargetsIsABlackHole(t *testing.T) {
	hole, a, b := blackHole(t), newScript(t), newScript(t)
	set := runSet(t, Options{DialTimeout: forEver})
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	defer stop()
	p := set.For(upstreamOf(hole, a.URL, b.URL))
	var calm, ejected sync.Mutex
	var before, after []time.Duration
	var fails atomic.Bool
	var failed atomic.Int64
	var visitors sync.WaitGroup
	for range 8 {
		visitors.Go(func() {
			for ctx.Err() == nil {
				began, failing := time.Now(), fails.Load()
				if text, err := do(ctx, t, p, http.MethodGet, ""); (err != nil || text != "ok") && ctx.Err() == nil {
					t.Errorf("%q, %v", text, err)
					failed.Add(1)
				}
				lock, list := &calm, &before
				if failing {
					lock, list = &ejected, &after
				}
				lock.Lock()
				*list = append(*list, time.Since(began))
				lock.Unlock()
			}
		})
	}
	began := time.Now()
	eventually(t, "the fault", func() bool { return p.targets[0].fails() })
	t.Logf("it fails after %v", time.Since(began).Round(time.Millisecond))
	fails.Store(true)
	eventually(t, "more load", func() bool { ejected.Lock(); defer ejected.Unlock(); return len(after) > 500 })
	stop()
	visitors.Wait()
	slices.Sort(before)
	slices.Sort(after)
	t.Logf("until then %d requests, the slowest %v; since then %d, p99 %v; %d failed", len(before), before[len(before)-1], len(after), after[len(after)*99/100], failed.Load())
}

// mute is a target that takes connections and says nothing, over TLS.
func mute(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "https://" + listener.Addr().String()
}

func TestNobodyWaitsForAHandshakeThatHangsWhileAnotherTargetIsThere(t *testing.T) {
	u := firstOf(mute(t), newScript(t).URL)
	u.Timeouts.TLS = forEver.Seconds()
	set := newSet(t, Options{})
	if text, err := do(t.Context(), t, set.For(u), http.MethodPost, "x"); err != nil || text != "ok" {
		t.Errorf("%q, %v", text, err)
	}
	if s := set.Status()[0].Targets[0]; s.Failures != 1 || s.Requests != 1 || !s.FailingSince.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestTheLastTargetIsGivenTheTimeForItsHandshake(t *testing.T) {
	u := firstOf(dead(t).URL, mute(t))
	u.Timeouts.TLS = 1.5
	began := time.Now()
	_, err := do(t.Context(), t, newSet(t, Options{}).For(u), http.MethodGet, "")
	if took := time.Since(began); Cause(err) != "dial" || !IsTimeout(err) || took < 1500*time.Millisecond {
		t.Errorf("%v after %v", err, took)
	}
}
