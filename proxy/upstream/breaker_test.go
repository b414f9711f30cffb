package upstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cutover/rules"
)

func rowOfBreaker() *rules.Breaker { return &rules.Breaker{Percent: 50, Requests: 4, Pause: 30} }

// opens tells a breaker what some requests have shown at a time, and reports whether it opens.
func opens(b *breaker, now time.Time, all ...verdict) bool {
	for _, v := range all {
		b.note(v, false, rowOfBreaker(), now)
	}
	return b.state() != nil
}

func TestABreakerOpensWhereSoManyOfSoManyAnswersFail(t *testing.T) {
	now := time.Unix(1000, 0)
	for name, row := range map[string]struct {
		all  []verdict
		want bool
	}{
		"too few":                   {[]verdict{bad, bad, bad}, false},
		"enough":                    {[]verdict{bad, bad, bad, bad}, true},
		"half of them":              {[]verdict{good, bad, good, bad}, true},
		"fewer than half":           {[]verdict{good, bad, good, good, bad}, false},
		"visitors who left":         {[]verdict{bad, bad, bad, nothing, nothing, nothing}, false},
		"answers that break off":    {[]verdict{good, good, good, good, turned, turned}, true},
		"one answer that broke off": {[]verdict{good, good, good, good, turned}, false},
	} {
		if got := opens(&breaker{}, now, row.all...); got != row.want {
			t.Errorf("%s: opens %v", name, got)
		}
	}
}

func TestABreakerLooksTenSecondsBack(t *testing.T) {
	for after, want := range map[time.Duration]bool{9 * time.Second: true, 10 * time.Second: false, time.Hour: false} {
		var b breaker
		opens(&b, time.Unix(1000, 0), bad, bad, bad)
		if got := opens(&b, time.Unix(1000, 0).Add(after), bad); got != want {
			t.Errorf("after %v: opens %v", after, got)
		}
	}
}

func TestAnOpenBreakerLetsOneTryAfterItsPause(t *testing.T) {
	var b breaker
	row, now := rowOfBreaker(), time.Unix(1000, 0)
	if !opens(&b, now, bad, bad, bad, bad) {
		t.Fatal("it does not open")
	}
	_, err := b.admit(pauseOf(row), now.Add(20*time.Second))
	if !errors.Is(err, ErrOpen) || RetryAfter(err) != 10*time.Second || Cause(err) != "open" {
		t.Errorf("before: %v, %v", err, RetryAfter(err))
	}
	now = now.Add(30 * time.Second)
	try := func() bool {
		t.Helper()
		tries, err := b.admit(pauseOf(row), now)
		return tries && err == nil
	}
	if !try() || try() {
		t.Error("it is not one that may try")
	}
	b.note(good, false, row, now) // of a request from before
	if b.note(nothing, true, row, now); b.state() == nil || !try() {
		t.Error("the one that tries has left, and no other may")
	}
	if b.note(bad, true, row, now); b.state() == nil || try() {
		t.Error("the one that tries has failed, and the next may at once")
	}
	now = now.Add(30 * time.Second)
	if !try() {
		t.Error("after the second pause none may try")
	}
	now = now.Add(30 * time.Second) // it hangs
	if !try() {
		t.Error("one that hangs keeps others from trying")
	}
	if _, ended := b.note(good, true, row, now); ended == nil || b.state() != nil {
		t.Error("a success does not close it")
	}
	if opens(&b, now, bad, bad, bad) {
		t.Error("failures from before count")
	}
}

// sick is a target whose answers a test sets: a status, or 0 to break off.
func sick(t *testing.T) (url string, status *atomic.Int64) {
	t.Helper()
	status = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch code := status.Load(); code {
		case 0:
			panic(http.ErrAbortHandler)
		case 1: // in the middle of the answer
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(int(code))
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, status
}

// logged keeps lines, for many who write.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestAnUpstreamWhoseAnswersFailIsLeftAloneUntilOneSucceeds(t *testing.T) {
	for name, failure := range map[string]int64{"503": 503, "it breaks off": 0, "it breaks off in the middle": 1} {
		t.Run(name, func(t *testing.T) {
			url, status := sick(t)
			u := upstreamOf(url)
			u.Breaker = rules.Breaker{Percent: 50, Requests: 5, Pause: 0.05}
			var log logged
			set := newSet(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			p := set.For(u)
			status.Store(failure)
			for range 5 {
				_, err := do(t.Context(), t, p, http.MethodGet, "")
				if errors.Is(err, ErrOpen) {
					t.Fatal("it is open already")
				}
			}
			if s := set.Status()[0]; s.OpenSince.IsZero() || s.OpenBecause != "5 of 5 answers in 10 s have failed" {
				t.Errorf("%+v", s)
			}
			status.Store(200)
			eventually(t, "an answer", func() bool {
				_, err := do(t.Context(), t, p, http.MethodGet, "")
				if err != nil && !errors.Is(err, ErrOpen) {
					t.Error(err)
				}
				return err == nil
			})
			if s := set.Status()[0]; !s.OpenSince.IsZero() {
				t.Errorf("%+v", s)
			}
			if text := log.String(); !strings.Contains(text, "breaker of an upstream opens") || !strings.Contains(text, "breaker of an upstream closes") {
				t.Errorf("the log says %s", text)
			}
		})
	}
}

func TestVisitorsWhoLeaveDoNotOpenABreaker(t *testing.T) {
	arrived := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	u := upstreamOf(server.URL)
	u.Breaker = rules.Breaker{Percent: 1, Requests: 1}
	set := newSet(t, Options{})
	for range 3 {
		ctx, leave := context.WithCancel(t.Context())
		var visitor sync.WaitGroup
		visitor.Go(func() { _, _ = do(ctx, t, set.For(u), http.MethodGet, "") })
		<-arrived
		leave()
		visitor.Wait()
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.MultiReader(strings.NewReader("x"), failing{}))
	if _, err := set.For(u).RoundTrip(r); Cause(err) != "request" {
		t.Error(err)
	}
	if s := set.Status()[0]; !s.OpenSince.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestAnUpstreamWithoutABreakerIsAskedHoweverOftenItFails(t *testing.T) {
	url, _ := sick(t)
	p := newSet(t, Options{}).For(upstreamOf(url))
	for range 50 {
		if _, err := do(t.Context(), t, p, http.MethodGet, ""); Cause(err) != "broken" {
			t.Fatal(err)
		}
	}
}

func TestOldDownloadsThatBreakOffAreNoneOfTheFreshAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := upstreamOf("http://127.0.0.1:1")
		u.Breaker = rules.Breaker{Percent: 60, Requests: 20}
		p := NewSet(Options{}).For(u)
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		breakOff := func(headed time.Time) {
			for range 20 {
				p.turned(r, &http.Response{StatusCode: http.StatusOK}, io.ErrUnexpectedEOF, headed)
			}
		}
		answer := func() time.Time {
			for range 20 {
				p.breaker.note(good, false, &u.Breaker, time.Now())
			}
			return time.Now()
		}
		old := answer()
		time.Sleep(15 * time.Second)
		fresh := answer()
		breakOff(old)
		if o := p.breaker.state(); o != nil {
			t.Errorf("20 good answers, and 20 bad ones: %s", o.why)
		}
		breakOff(fresh)
		if p.breaker.state() == nil {
			t.Error("all have broken off, and it stays closed")
		}
	})
}
