package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"

	"cutover/rules"
)

// breaking is a target that reads so many bytes of each request's body and then breaks off.
func breaking(t *testing.T, reads int64) (target rules.Target, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.CopyN(io.Discard, r.Body, reads)
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(server.Close)
	return rules.Target{URL: server.URL, Weight: 1000, State: rules.StateReady}, requests
}

// sendTwice sends a request to an upstream whose first target breaks off after some bytes, and returns the other's answer.
func sendTwice(t *testing.T, method, body string, reads int64, change func(*rules.Upstream)) (answer string, requests int64, err error) {
	t.Helper()
	bad, count := breaking(t, reads)
	good := named(t, "good:")
	good.ID = 2
	u := rowOf(bad, good)
	u.Balance = rules.BalanceRoundRobin // the heavy one first
	if change != nil {
		change(u)
	}
	answer, err = do(t.Context(), t, newSet(t, Options{}).For(u), method, body)
	return answer, count.Load(), err
}

func TestARequestThatMayBeActedUponTwiceIsSentToAnotherTargetWithAllOfItsBody(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 4<<10) // 64 KiB
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodGet} {
		for _, reads := range []int64{0, 1, 1000, int64(len(body))} {
			answer, requests, err := sendTwice(t, method, body, reads, nil)
			if err != nil || answer != "good:"+body || requests != 1 {
				t.Errorf("%s after %d bytes: %.20q (%d bytes), %v, %d requests", method, reads, answer, len(answer), err, requests)
			}
		}
	}
}

func TestARequestThatMayBeActedUponOnceIsNotSentToAnother(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodPatch} {
		for _, body := range []string{"", "x"} {
			if answer, requests, err := sendTwice(t, method, body, 0, nil); Cause(err) != "broken" || requests != 1 {
				t.Errorf("%s %q: %q, %v, %d requests", method, body, answer, err, requests)
			}
		}
	}
}

func TestABodyThatIsLongerThanWhatIsKeptIsNotSentAgain(t *testing.T) {
	for name, row := range map[string]struct {
		kept int
		body string
	}{
		"longer":       {1000, strings.Repeat("x", 1<<20)},
		"nothing kept": {0, "x"},
	} {
		answer, _, err := sendTwice(t, http.MethodPut, row.body, int64(len(row.body)), func(u *rules.Upstream) { u.RetryBody = row.kept })
		if Cause(err) != "broken" {
			t.Errorf("%s: %.20q, %v", name, answer, err)
		}
	}
}

func TestALongBodyPassesAsItIsThoughItsBeginIsKept(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	p := newSet(t, Options{}).For(rowOf(named(t, ""), named(t, "")))
	if answer, err := do(t.Context(), t, p, http.MethodPut, body); err != nil || answer != body {
		t.Errorf("%d bytes, %v", len(answer), err)
	}
}

func TestRetriesBoundTheAttempts(t *testing.T) {
	for retries, want := range []uint64{1, 2, 3, 4, 4} {
		for name, target := range map[string]func() rules.Target{
			"refuse":    func() rules.Target { return dead(t) },
			"break off": func() rules.Target { one, _ := breaking(t, 0); return one },
		} {
			u := rowOf(target(), target(), target(), target())
			u.Retries = retries
			set := newSet(t, Options{})
			if _, err := do(t.Context(), t, set.For(u), http.MethodGet, ""); err == nil {
				t.Errorf("there is an answer")
			}
			attempts := uint64(0)
			for _, target := range set.Status()[0].Targets {
				attempts += target.Requests
			}
			if attempts != want {
				t.Errorf("%d retries where targets %s: %d attempts", retries, name, attempts)
			}
		}
	}
}

func TestARequestToATargetThatHasVanishedIsSentToAnotherButNotOneThatIsAnsweredTooLate(t *testing.T) {
	p := newSet(t, Options{}).For(balanced("", 1, 1))
	vanished := &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)} // as TCP_USER_TIMEOUT ends it
	for _, row := range []struct {
		method string
		err    error
		want   bool
	}{{http.MethodGet, vanished, true}, {http.MethodPost, vanished, false}, {http.MethodGet, os.ErrDeadlineExceeded, false}} {
		r, _ := http.NewRequestWithContext(t.Context(), row.method, "/", nil)
		if got := p.goesOn(r, sent, row.err, 1, nil); got != row.want {
			t.Errorf("%s after %v: %v", row.method, row.err, got)
		}
	}
}

// slowly gives its bytes one by one, each when it is asked for.
type slowly struct {
	asked chan struct{}
	text  chan byte
}

func (s *slowly) Read(p []byte) (int, error) {
	s.asked <- struct{}{}
	c, ok := <-s.text
	if !ok {
		return 0, io.EOF
	}
	p[0] = c
	return 1, nil
}

func TestWhatAnOldAttemptStillReadsIsNotLost(t *testing.T) {
	source := &slowly{make(chan struct{}), make(chan byte)}
	k := &keptBody{source: io.NopCloser(source), most: 100}
	old := k.open()
	var reads sync.WaitGroup
	reads.Go(func() {
		if n, err := old.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Errorf("the read that was under way: %d, %v", n, err)
		}
		if _, err := old.Read(make([]byte, 10)); !errors.Is(err, errOvertaken) {
			t.Errorf("the one after: %v", err)
		}
	})
	<-source.asked // it waits for the visitor
	if !k.recall() {
		t.Fatal("it cannot be sent again")
	}
	next := k.open()
	source.text <- 'a'
	reads.Wait()
	reads.Go(func() {
		if text, err := io.ReadAll(next); string(text) != "ab" || err != nil {
			t.Errorf("the next attempt reads %q, %v", text, err)
		}
	})
	<-source.asked
	source.text <- 'b'
	<-source.asked
	close(source.text)
	reads.Wait()
}

func TestABodyIsKeptUpToItsLimitAndNotBeyond(t *testing.T) {
	for most, whole := range map[int]bool{-1: false, 9: false, 10: true} {
		k := &keptBody{source: io.NopCloser(iotest.OneByteReader(strings.NewReader("0123456789"))), most: most}
		text, err := io.ReadAll(k.open())
		if string(text) != "0123456789" || err != nil || k.recall() != whole {
			t.Errorf("%d: %q, %v, kept %v", most, text, err, k.recall())
		}
		again, err := io.ReadAll(k.open())
		if whole && string(again) != "0123456789" || whole != (err == nil) {
			t.Errorf("%d: again %q, %v", most, again, err)
		}
	}
}

func TestABrokenOffUploadIsTheVisitorsInEveryAttempt(t *testing.T) {
	bad, _ := breaking(t, 1)
	u := rowOf(bad, named(t, "good"))
	set := newSet(t, Options{})
	r, _ := http.NewRequestWithContext(context.Background(), http.MethodPut, "/", io.MultiReader(strings.NewReader("x"), failing{}))
	_, err := set.For(u).RoundTrip(r)
	status := set.Status()[0].Targets
	if Cause(err) != "request" || slices.ContainsFunc(status, func(s TargetStatus) bool { return s.Failures > 1 }) {
		t.Errorf("%v, %+v", err, status)
	}
}
