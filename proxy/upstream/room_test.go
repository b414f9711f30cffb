package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cutover/rules"
)

// roomy is an upstream of n targets that nobody connects to, with a limit and a queue.
func roomy(targets, most, queue int) *rules.Upstream {
	u := balanced(rules.BalanceRoundRobin, slices.Repeat([]int{1}, targets)...)
	u.Room = rules.Room{MaxInFlight: most, QueueLength: queue, QueueTimeout: 10}
	return u
}

// place is a request in line.
type place struct {
	got  chan *target
	err  chan error
	left context.CancelFunc
}

// queue has a request ask for a target; it is in line when the caller goes on, unless it got one. Only in a synctest bubble.
func queue(t *testing.T, p *Pool, w *wish) *place {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	one := &place{make(chan *target, 1), make(chan error, 1), cancel}
	go func() {
		defer cancel()
		got, err := p.take(ctx, w)
		one.got <- got
		one.err <- err
	}()
	synctest.Wait()
	return one
}

func (p *place) waits() bool { return len(p.err) == 0 }

func TestARequestWaitsForRoomAndTheFirstComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewSet(Options{}).For(roomy(1, 2, 3))
		one, _ := p.take(t.Context(), &wish{})
		_, _ = p.take(t.Context(), &wish{})
		line := []*place{queue(t, p, &wish{}), queue(t, p, &wish{}), queue(t, p, &wish{})}
		if _, err := p.take(t.Context(), &wish{}); !errors.Is(err, ErrFull) {
			t.Errorf("beyond the queue: %v", err)
		}
		for n := range line {
			if !line[n].waits() {
				t.Fatalf("request %d does not wait", n)
			}
			one.giveBack()
			synctest.Wait()
			if line[n].waits() {
				t.Fatalf("request %d waits though it is the first and there is room", n)
			}
			if err := <-line[n].err; err != nil {
				t.Fatal(err)
			}
		}
		if n := p.targets[0].state.inFlight.Load(); n != 2 {
			t.Errorf("%d in flight", n)
		}
	})
}

func TestARequestThatHasWaitedForTooLongLeavesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewSet(Options{}).For(roomy(1, 1, 1))
		one, _ := p.take(t.Context(), &wish{})
		began := time.Now()
		if _, err := p.take(t.Context(), &wish{}); !errors.Is(err, ErrQueueTimeout) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		next := queue(t, p, &wish{}) // its place is free
		one.giveBack()
		if err := <-next.err; err != nil {
			t.Error(err)
		}
	})
}

func TestAVisitorWhoLeavesFreesThePlaceInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewSet(Options{}).For(roomy(1, 1, 1))
		one, _ := p.take(t.Context(), &wish{})
		first := queue(t, p, &wish{})
		first.left()
		if err := <-first.err; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		next := queue(t, p, &wish{})
		one.giveBack()
		if got := <-next.got; got == nil || p.targets[0].state.inFlight.Load() != 1 {
			t.Errorf("%v, %v, %d in flight", got, <-next.err, p.targets[0].state.inFlight.Load())
		}
	})
}

func TestThoseInLineFollowAChangeOfTheRow(t *testing.T) {
	for name, change := range map[string]func(*rules.Upstream){
		"a higher limit":   func(u *rules.Upstream) { u.MaxInFlight = 2 },
		"no limit":         func(u *rules.Upstream) { u.MaxInFlight = 0 },
		"another target":   func(u *rules.Upstream) { u.Targets = append(u.Targets, balanced("", 1, 1).Targets[1]) },
		"other targets":    func(u *rules.Upstream) { u.Targets = balanced("", 1, 1).Targets[1:] },
		"no target at all": func(u *rules.Upstream) { u.Targets = nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			set := NewSet(Options{})
			p := set.For(roomy(1, 1, 5))
			if _, err := p.take(t.Context(), &wish{}); err != nil {
				t.Fatal(err)
			}
			waiting := queue(t, p, &wish{})
			changed := roomy(1, 1, 5)
			change(changed)
			set.For(changed)
			synctest.Wait()
			if waiting.waits() {
				t.Fatalf("%s: it still waits", name)
			}
			if got, err := <-waiting.got, <-waiting.err; err != nil || (got == nil) != (changed.Targets == nil) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		})
	}
}

func TestWhatIsInFlightCountsAfterAChangeOfTheRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := NewSet(Options{})
		unlimited := roomy(1, 0, 5)
		one, _ := set.For(unlimited).take(t.Context(), &wish{})
		waiting := queue(t, set.For(roomy(1, 1, 5)), &wish{})
		if !waiting.waits() {
			t.Error("it does not wait")
		}
		one.giveBack()
		if err := <-waiting.err; err != nil {
			t.Error(err)
		}
	})
}

func TestARequestDoesNotWaitForATargetThatItHadWhileAnotherHasRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewSet(Options{}).For(roomy(2, 1, 5))
		first, _ := p.take(t.Context(), &wish{})
		second, _ := p.take(t.Context(), &wish{})
		repeated := queue(t, p, &wish{tried: []*target{first}})
		fresh := queue(t, p, &wish{})
		first.giveBack()
		if got := <-fresh.got; got != first || !repeated.waits() {
			t.Errorf("the one that may have it gets %v", got)
		}
		second.giveBack()
		if got := <-repeated.got; got != second {
			t.Errorf("the other gets %v", got)
		}
	})
}

func TestThoseInLineGoToAFailingTargetOnceAllFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := NewSet(Options{})
		p := set.For(roomy(2, 1, 5))
		p.targets[0].state.health.failed(errTooLong, time.Now())
		if one, _ := p.take(t.Context(), &wish{}); one != p.targets[1] {
			t.Fatal("a failing target is chosen")
		}
		waiting := queue(t, p, &wish{})
		if !waiting.waits() {
			t.Error("it does not wait for the one that does not fail")
		}
		set.fails("v1", p.targets[1], p.targets[1].state.health.failed(errTooLong, time.Now()))
		if got := <-waiting.got; got != p.targets[0] {
			t.Errorf("it gets %v", got)
		}
	})
}

func TestNoTargetHasMoreThanItMayAndNobodyIsForgottenInLine(t *testing.T) {
	const most, visitors, each = 3, 24, 40
	var busy [2]atomic.Int64
	u := upstreamOf()
	for n := range busy {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if body, _ := io.ReadAll(r.Body); string(body) == "stays" { // who leaves is in flight no more, whether the target knows or not
				if now := busy[n].Add(1); now > most {
					t.Errorf("target %d has %d requests", n, now)
				}
				runtime.Gosched()
				busy[n].Add(-1)
			}
			_, _ = io.WriteString(w, "ok")
		}))
		t.Cleanup(server.Close)
		u.Targets = append(u.Targets, rules.Target{ID: int64(n + 1), URL: server.URL, Weight: 1, State: rules.StateReady})
	}
	u.Room = rules.Room{MaxInFlight: most, QueueLength: visitors, QueueTimeout: 60}
	set := newSet(t, Options{})
	var pool atomic.Pointer[Pool]
	pool.Store(set.For(u))
	var group sync.WaitGroup
	for n := range visitors {
		group.Go(func() {
			for range each {
				ctx, leave := context.WithCancel(context.WithoutCancel(t.Context()))
				body := "stays"
				if n%4 == 0 {
					body = "leaves"
					time.AfterFunc(rand.N(time.Millisecond), leave)
				}
				if text, err := do(ctx, t, pool.Load(), http.MethodPost, body); (err != nil || text != "ok") && ctx.Err() == nil {
					t.Errorf("%q, %v", text, err)
				}
				leave()
				if n == 1 { // the row changes all the time
					changed := *u
					changed.Note = strconv.Itoa(int(rand.Int32()))
					pool.Store(set.For(&changed))
				}
			}
		})
	}
	group.Wait()
	status := set.Status()[0]
	if status.Targets[0].InFlight+status.Targets[1].InFlight != 0 || status.Waiting != 0 {
		t.Errorf("%+v", status)
	}
}

func TestATunnelTakesRoomUntilItIsClosed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = bufio.NewReader(c).ReadByte() // until the other side closes
	}))
	t.Cleanup(server.Close)
	u := upstreamOf(server.URL)
	u.Room = rules.Room{MaxInFlight: 1}
	set := newSet(t, Options{})
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
	response, err := set.For(u).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := do(t.Context(), t, set.For(u), http.MethodGet, ""); !errors.Is(err, ErrFull) || Cause(err) != "full" {
		t.Errorf("meanwhile: %v", err)
	}
	_ = response.Body.Close()
	if _, err := do(t.Context(), t, set.For(u), http.MethodGet, ""); err != nil {
		t.Error(err)
	}
}

func TestTheStatusSaysHowManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := NewSet(Options{})
		p := set.For(roomy(1, 1, 5))
		one, _ := p.take(t.Context(), &wish{})
		waiting := []*place{queue(t, p, &wish{}), queue(t, p, &wish{})}
		if n := set.Status()[0].Waiting; n != 2 {
			t.Errorf("%d wait", n)
		}
		for range waiting {
			one.giveBack()
		}
		for _, place := range waiting {
			<-place.err
		}
	})
}

// BenchmarkTake is what the choice of a target costs a request: without a limit, and with one that is never met.
func BenchmarkTake(b *testing.B) {
	for name, most := range map[string]int{"without a limit": 0, "with a limit": 1 << 20} {
		b.Run(name, func(b *testing.B) {
			u := balanced(rules.BalanceP2C, 1, 1, 1)
			u.MaxInFlight = most
			p := NewSet(Options{}).For(u)
			b.ReportAllocs()
			b.RunParallel(func(each *testing.PB) {
				for each.Next() {
					w := p.wishOf(b.Context())
					t, err := p.take(b.Context(), &w)
					if err != nil {
						b.Fatal(err)
					}
					t.giveBack()
				}
			})
		})
	}
}

func TestWhoWaitsForOneTargetKeepsNobodyFromAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewSet(Options{}).For(roomy(2, 1, 1))
		a, b := p.targets[0], p.targets[1]
		b.occupy()
		one := queue(t, p, &wish{tried: []*target{a}}) // a has refused it, so it waits for b
		if !one.waits() {
			t.Fatal("it does not wait")
		}
		if got, err := p.take(t.Context(), &wish{}); err != nil || got != a {
			t.Errorf("a has room, and a request that may have it gets %v, %v", got, err)
		}
		b.giveBack()
		if got := <-one.got; got != b {
			t.Errorf("who has waited for b gets %v", got)
		}
		synctest.Wait()
	})
}

func TestThoseInLineGoToATargetThatIsNoLongerDoubted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewSet(Options{}).For(roomy(2, 1, 5))
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		_ = p.failed(r, p.targets[1], errHangs)
		if got, _ := p.take(t.Context(), &wish{}); got != p.targets[0] {
			t.Fatal("the one that hangs is asked first")
		}
		one := queue(t, p, &wish{})
		if !one.waits() {
			t.Fatal("it does not wait while there is doubt")
		}
		began := time.Now()
		if got := <-one.got; got != p.targets[1] || time.Since(began) > 2*doubted {
			t.Errorf("got %v after %v: %v", got, time.Since(began), <-one.err)
		}
		synctest.Wait()
	})
}
