package discovery

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cutover/rules"
)

const tagged = "droplets+http://web:8080"

func rowOf(url string) rules.Target {
	return rules.Target{ID: 7, Upstream: "v1", URL: url, Weight: 3, State: rules.StateDrain}
}

// oracle is a source whose answer a test sets.
type oracle struct {
	mu     sync.Mutex
	answer Answer
	err    error
	asked  atomic.Int64
	hangs  bool
}

func (o *oracle) resolver(rules.TargetSource) Lookup {
	return func(ctx context.Context) (Answer, error) {
		o.asked.Add(1)
		if o.hangs {
			<-ctx.Done()
			return Answer{}, ctx.Err()
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err != nil {
			return Answer{}, o.err
		}
		return o.answer, nil
	}
}

func (o *oracle) says(again time.Duration, urls ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer, o.err = Answer{Again: again}, nil
	for _, url := range urls {
		o.answer.Places = append(o.answer.Places, Place{url, 1})
	}
}

func (o *oracle) fails(why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = errors.New(why)
}

// finding runs a Finder with one oracle for droplets until the test ends. It is for use within synctest.
func finding(t *testing.T, o *oracle, upstreams func() []*rules.Upstream) (f *Finder, log *bytes.Buffer) {
	t.Helper()
	log = new(bytes.Buffer)
	f = New(Options{
		Upstreams: upstreams, Resolvers: map[rules.SourceKind]Resolver{rules.SourceDroplets: o.resolver}, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return f, log
}

func urls(f *Finder, row string) (list []string) {
	for _, target := range f.Targets(rowOf(row)) {
		list = append(list, target.URL)
	}
	return list
}

func TestARowStandsForTheTargetsThatItsSourceNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &oracle{answer: Answer{Places: []Place{{"http://10.0.0.2:8080", 2}, {"http://10.0.0.1:8080", 1}, {"http://10.0.0.2:8080", 5}}, Again: time.Minute}}
		if list := New(Options{}).Targets(rowOf(tagged)); len(list) > 0 {
			t.Errorf("before an answer: %+v", list)
		}
		f, _ := finding(t, o, nil)
		before := f.Generation()
		f.Await(t.Context(), []rules.Target{rowOf(tagged)})
		want := []rules.Target{
			{ID: 7, Upstream: "v1", URL: "http://10.0.0.1:8080", Weight: 3, State: rules.StateDrain},
			{ID: 7, Upstream: "v1", URL: "http://10.0.0.2:8080", Weight: 6, State: rules.StateDrain},
		}
		if list := f.Targets(rowOf(tagged)); !slices.Equal(list, want) || f.Generation() == before {
			t.Errorf("%+v in generation %d", list, f.Generation())
		}
		place := rowOf("http://127.0.0.1:9001")
		if list := f.Targets(place); len(list) != 1 || list[0] != place {
			t.Errorf("a place: %+v", list)
		}
	})
}

func TestTheGenerationChangesWithAnswersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &oracle{}
		o.says(10*time.Second, "http://10.0.0.1:8080", "http://10.0.0.2:8080")
		f, _ := finding(t, o, nil)
		f.Await(t.Context(), []rules.Target{rowOf(tagged)})
		first := f.Generation()
		o.says(10*time.Second, "http://10.0.0.2:8080", "http://10.0.0.1:8080")
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if f.Generation() != first || o.asked.Load() != 2 {
			t.Errorf("another order is generation %d after %d, asked %d times", f.Generation(), first, o.asked.Load())
		}
		o.says(10*time.Second, "http://10.0.0.2:8080")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if f.Generation() == first || !slices.Equal(urls(f, tagged), []string{"http://10.0.0.2:8080"}) {
			t.Errorf("%v in generation %d", urls(f, tagged), f.Generation())
		}
	})
}

func TestASourceThatFailsKeepsItsLastAnswerAndIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &oracle{}
		o.says(time.Second, "http://10.0.0.1:8080")
		f, log := finding(t, o, nil)
		f.Await(t.Context(), []rules.Target{rowOf(tagged)})
		o.fails("out of order")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		status := f.Status()
		if got := urls(f, tagged); len(got) != 1 || strings.Count(log.String(), "out of order") != 1 {
			t.Errorf("%v; %s", got, log)
		}
		if len(status) != 1 || status[0].URL != tagged || status[0].FailingBecause != "out of order" || status[0].FailingSince.IsZero() || len(status[0].Targets) != 1 {
			t.Errorf("%+v", status)
		}
		if n := o.asked.Load(); n < 20 || n > 40 { // 1, 2, 4, 8, 16 and then 24 to 30 seconds apart
			t.Errorf("it was asked %d times", n)
		}
		o.says(time.Minute, "http://10.0.0.1:8080")
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if status := f.Status(); status[0].FailingBecause != "" || !status[0].FailingSince.IsZero() || !strings.Contains(log.String(), "again") {
			t.Errorf("%+v; %s", status, log)
		}
	})
}

func TestTheFirstAnswerIsAwaitedForNoLongerThanTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &oracle{hangs: true}
		f, _ := finding(t, o, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		f.Await(ctx, []rules.Target{rowOf("http://127.0.0.1:1"), rowOf(tagged)})
		if waited := time.Since(began); waited != 3*time.Second {
			t.Errorf("for %s", waited)
		}
	})
}

func TestAFailureEndsTheWaitForTheFirstAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &oracle{err: errors.New("no")}
		f, _ := finding(t, o, nil)
		began := time.Now()
		f.Await(t.Context(), []rules.Target{rowOf(tagged)})
		if waited := time.Since(began); waited > 0 || len(urls(f, tagged)) > 0 {
			t.Errorf("%v after %s", urls(f, tagged), waited)
		}
	})
}

func TestTheRowsThatThereAreAreAskedForAndOthersForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &oracle{}
		o.says(time.Second, "http://10.0.0.1:8080")
		list := []*rules.Upstream{{Name: "v1", Targets: []rules.Target{rowOf(tagged), rowOf("http://127.0.0.1:9001")}}}
		var rows atomic.Pointer[[]*rules.Upstream]
		rows.Store(&list)
		f, _ := finding(t, o, func() []*rules.Upstream { return *rows.Load() })
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if status := f.Status(); len(status) != 1 || status[0].Answered.IsZero() {
			t.Fatalf("%+v", status)
		}
		rows.Store(&[]*rules.Upstream{})
		time.Sleep(10 * time.Second)
		if status := f.Status(); len(status) != 0 {
			t.Errorf("%+v", status)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if status := f.Status(); len(status) != 0 {
			t.Errorf("%+v", status)
		}
		asked := o.asked.Load()
		time.Sleep(2 * time.Minute)
		if o.asked.Load() != asked {
			t.Error("what is forgotten is asked")
		}
	})
}

func TestAKindThatNobodyCanFindSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := finding(t, &oracle{}, nil)
		f.Await(t.Context(), []rules.Target{rowOf("app:shop")})
		if status := f.Status(); len(status) != 1 || status[0].FailingBecause == "" {
			t.Errorf("%+v", status)
		}
	})
}
