package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"cutover/rules"
)

// spread makes v1 an upstream of three targets, which say their names, for its visitors.
func spread(t *testing.T, change func(*site)) *site {
	t.Helper()
	return newSite(t, says("a"), says("v2"), func(s *site) {
		trustLoopback(s)
		v1 := &s.rows.Upstreams[0]
		v1.Balance = rules.BalanceVisitorHash
		v1.Targets = append(v1.Targets, target(t, 3, says("b"))[0], target(t, 4, says("c"))[0])
		if change != nil {
			change(s)
		}
	})
}

func TestAVisitorStaysAtATargetByAddress(t *testing.T) {
	s := spread(t, nil)
	homes := map[string]int{}
	for n := range 30 {
		from := as(fmt.Sprintf("203.0.113.%d", n), "")
		first := s.get(t, "a.test", "/", from).body
		for range 3 {
			if again := s.get(t, "a.test", "/", from).body; again != first {
				t.Fatalf("address %d: %s, then %s", n, first, again)
			}
		}
		homes[first]++
	}
	if len(homes) != 3 { // all 30 at two of them: one in 64,000, and always the same for these addresses
		t.Errorf("%v", homes)
	}
}

func TestAVisitorStaysAtATargetByCookieWhereASplitHasIssuedOne(t *testing.T) {
	s := spread(t, func(s *site) { s.addRule("a.test", 0.01) })
	for n := range 20 {
		first := s.get(t, "a.test", "/", as(fmt.Sprintf("203.0.113.%d", n), ""))
		for m := range 3 {
			again := s.get(t, "a.test", "/", as(fmt.Sprintf("198.51.100.%d", 10*n+m), visitorCookie(first)))
			if again.body != first.body {
				t.Fatalf("visitor %d: %s, then %s", n, first.body, again.body)
			}
		}
	}
}

func TestAFullUpstreamAnswersUnavailableAndSaysWhenToRetry(t *testing.T) {
	for name, row := range map[string]struct {
		room rules.Room
		says string
	}{
		"nobody may wait":       {rules.Room{MaxInFlight: 1}, "queue_length"},
		"it waits for too long": {rules.Room{MaxInFlight: 1, QueueLength: 1, QueueTimeout: 0.05}, "queue_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			s := newSite(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-release }), nil,
				func(s *site) { s.rows.Upstreams[0].Room = row.room })
			var first sync.WaitGroup
			first.Go(func() { s.get(t, "a.test", "/", nil) })
			<-arrived
			a := s.get(t, "a.test", "/", nil)
			close(release)
			first.Wait()
			if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
				t.Errorf("%d %v", a.StatusCode, a.Header)
			}
			eventually(t, "the line that says why", func() bool { return strings.Contains(s.log.String(), row.says) })
		})
	}
}

func TestAnUpstreamThatIsLeftAloneAnswersUnavailableAndSaysForHowLong(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }), nil,
		func(s *site) { s.rows.Upstreams[0].Breaker = rules.Breaker{Percent: 100, Requests: 2, Pause: 600} })
	for range 2 {
		if a := s.get(t, "a.test", "/", nil); a.StatusCode != http.StatusInternalServerError {
			t.Fatal(a.StatusCode)
		}
	}
	a := s.get(t, "a.test", "/", nil)
	seconds, _ := strconv.Atoi(a.Header.Get("Retry-After"))
	if a.StatusCode != http.StatusServiceUnavailable || seconds < 500 || seconds > 600 {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

func TestATargetThatTakesNothingOfAnUploadIsAGatewayTimeout(t *testing.T) {
	ended := make(chan struct{})
	s := newSite(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ended }), nil,
		func(s *site) { s.rows.Upstreams[0].Timeouts.Idle = 0.3 })
	defer close(ended)
	c := s.dial(t)
	var visitor sync.WaitGroup
	defer visitor.Wait()
	visitor.Go(func() {
		write(t, c, "POST / HTTP/1.1\nHost: a.test\nContent-Length: 1000000000\n\n")
		block := make([]byte, 64<<10)
		for {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	_ = c.Close()
	if answer.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("got %d", answer.StatusCode)
	}
}

func TestAnAnswerThatRestsForTooLongIsSeenToBeBroken(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}), nil, func(s *site) { s.rows.Upstreams[0].Timeouts.Idle = 0.2 })
	c := s.dial(t)
	write(t, c, "GET / HTTP/1.1\nHost: a.test\n\n")
	if text, err := io.ReadAll(c); strings.HasSuffix(string(text), "0\r\n\r\n") {
		t.Errorf("half an answer looks whole: %q, %v", text, err)
	}
	eventually(t, "the line", func() bool { return strings.Contains(s.lines.String(), "idle_timeout") })
}
