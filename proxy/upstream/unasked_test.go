package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// answerTwice is a target that answers every request, and then answers something that nobody has asked for, in the same packet.
func answerTwice(t *testing.T, unasked string) (address string, poisoned *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	poisoned = &atomic.Int64{}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				for reader := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					id := r.URL.Query().Get("id")
					own := ""
					if r.Method != http.MethodHead {
						own = id
					}
					if _, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Answer-To: %s\r\nContent-Length: %d\r\n\r\n%s%s", id, len(id), own, unasked); err != nil {
						return
					}
					poisoned.Add(1)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String(), poisoned
}

// An answer that nobody has asked for must not become the next visitor's: its connection is never used again.
func TestNobodyGetsAnAnswerThatNobodyAskedFor(t *testing.T) {
	const poison = "HTTP/1.1 200 OK\r\nX-Answer-To: poison\r\nContent-Length: 6\r\n\r\npoison"
	for name, unasked := range map[string]string{"whole": poison, "half": poison[:30], "body of a HEAD": "poison", "long": strings.Replace(poison, "6", "100000", 1)} {
		t.Run(name, func(t *testing.T) {
			address, poisoned := answerTwice(t, unasked)
			s := NewSet(Options{})
			u := upstreamOf("http://" + address)
			var visitors sync.WaitGroup
			for visitor := range 16 {
				visitors.Go(func() {
					for n := range 100 {
						id := fmt.Sprintf("%d-%d", visitor, n)
						method := []string{http.MethodGet, http.MethodHead, http.MethodPost}[n%3]
						if got := answeredTo(t, s.For(u), method, id); got != id && got != "" {
							t.Errorf("%s %s got the answer to %q", method, id, got)
							return
						}
					}
				})
			}
			visitors.Wait()
			s.Close()
			if poisoned.Load() < 500 {
				t.Errorf("only %d answers were followed by another", poisoned.Load())
			}
		})
	}
}

// answeredTo asks and returns whose answer comes; empty if there is none, which an honest 502 says.
func answeredTo(t *testing.T, p *Pool, method, id string) string {
	t.Helper()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("sent")
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "/?id="+id, body)
	if err != nil {
		t.Error(err)
		return ""
	}
	response, err := p.RoundTrip(r)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && method != http.MethodHead && string(text) != id {
		return string(text)
	}
	return response.Header.Get("X-Answer-To")
}

func TestAnAnswerThatIsReadBeyondItsEndDoesNotEndTheNext(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/slow" {
			<-release
		}
	}))
	t.Cleanup(server.Close)
	defer close(release)
	lanes := newSet(t, Options{}).For(upstreamOf(server.URL)).targets[0].connections.repeatable
	send := func(path string) *http.Response {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		response, err := lanes.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return response
	}
	first := send("/")
	if _, err := io.ReadAll(first.Body); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the connection to be free", func() bool {
		lanes.mu.Lock()
		defer lanes.mu.Unlock()
		return len(lanes.free) == 1
	})
	second := send("/slow").Body.(*laneBody)
	if n, err := first.Body.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("%d, %v", n, err)
	}
	lanes.mu.Lock()
	defer lanes.mu.Unlock()
	if second.lane != first.Body.(*laneBody).lane || second.lane.ended || len(lanes.free) != 0 {
		t.Error("the next answer counts as ended, or has another connection")
	}
}
