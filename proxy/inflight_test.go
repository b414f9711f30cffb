package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// held is a target that answers when it is told to, or when its request is taken back.
type held struct {
	begun   chan struct{}
	release chan struct{}
}

func newHeld() *held { return &held{make(chan struct{}, 100), make(chan struct{})} }

func (h *held) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/now":
		return
	case "/events":
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
	}
	h.begun <- struct{}{}
	select {
	case <-h.release:
	case <-r.Context().Done():
	}
}

// crowded lets a network have two requests under way, and believes what the loopback says about whose they are.
func crowded(s *site) {
	trustLoopback(s)
	s.handler.Limits = Limits{NetworkRequests: 2, Exempt: func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.99") }}
}

func forwardedFor(client string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-Forwarded-For", client) }
}

// hold keeps requests of a client under way until the end of the test, or until what it returns is called.
func (s *site) hold(t *testing.T, on *held, client string, paths ...string) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for _, path := range paths {
		asking.Go(func() {
			request, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
			forwardedFor(client)(request)
			if answer, err := s.Client().Do(request); err == nil {
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		})
	}
	for range paths {
		<-on.begun
	}
	leave = func() { cancel(); asking.Wait() }
	t.Cleanup(leave)
	return leave
}

func (f *inFlight) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.networks) == 0
}

func TestANetworkWithTooManyRequestsUnderWayIsAnswered429AndOthersAreServed(t *testing.T) {
	on := newHeld()
	s := newSite(t, on, nil, crowded)
	leave := s.hold(t, on, "2001:db8::1", "/slow", "/events")
	got := s.get(t, "a.test", "/now", forwardedFor("2001:db8::2"))
	if got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") != "1" || !strings.Contains(got.body, "Too Many Requests") {
		t.Errorf("%d, Retry-After %q: %s", got.StatusCode, got.Header.Get("Retry-After"), got.body)
	}
	if n := s.handler.Metrics.Totals().Refused[networkRequests]; n != 1 {
		t.Errorf("%d are counted", n)
	}
	if got := s.get(t, "a.test", "/now", forwardedFor("2001:db8:0:1::1")); got.StatusCode != http.StatusOK {
		t.Errorf("another network got %d", got.StatusCode)
	}
	leave()
	eventually(t, "those who left are counted no more", s.handler.inFlight.empty)
	if got := s.get(t, "a.test", "/now", forwardedFor("2001:db8::2")); got.StatusCode != http.StatusOK {
		t.Errorf("afterwards, it got %d", got.StatusCode)
	}
}

func TestATunnelIsUnderWayUntilItEnds(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/now" {
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	}), nil, crowded)
	var tunnels []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		tunnels = append(tunnels, c)
		write(t, c, "GET /tunnel HTTP/1.1\nHost: a.test\nX-Forwarded-For: 192.0.2.1\nConnection: Upgrade\nUpgrade: x\n\n")
		if answer, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%+v, %v", answer, err)
		}
	}
	if got := s.get(t, "a.test", "/now", forwardedFor("192.0.2.1")); got.StatusCode != http.StatusTooManyRequests {
		t.Errorf("beside two tunnels: %d", got.StatusCode)
	}
	_ = tunnels[0].Close()
	eventually(t, "there is room", func() bool {
		return s.get(t, "a.test", "/now", forwardedFor("192.0.2.1")).StatusCode == http.StatusOK
	})
}

func TestStreamsOfOneHTTP2ConnectionAreCountedEach(t *testing.T) {
	on := newHeld()
	s := newSite(t, on, nil, func(s *site) { s.handler.Limits.NetworkRequests = 2 })
	client := overHTTP2(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for range 2 {
		asking.Go(func() {
			request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://example.com/slow", nil)
			if answer, err := client.Do(request); err == nil {
				_ = answer.Body.Close()
			}
		})
		<-on.begun
	}
	answer, err := client.Get("https://example.com/now")
	if err != nil || answer.StatusCode != http.StatusTooManyRequests {
		t.Fatalf("%+v, %v", answer, err)
	}
	_ = answer.Body.Close()
}

func TestWhoIsExemptMayHaveManyRequestsUnderWay(t *testing.T) {
	on := newHeld()
	s := newSite(t, on, nil, crowded)
	s.hold(t, on, "192.0.2.99", "/slow", "/slow", "/slow", "/slow")
	if got := s.get(t, "a.test", "/now", forwardedFor("192.0.2.99")); got.StatusCode != http.StatusOK {
		t.Errorf("it got %d", got.StatusCode)
	}
}

func TestNetworksWithoutRequestsUnderWayTakeNoMemory(t *testing.T) {
	f := &inFlight{}
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range 1000 {
		f.enter(address(i), 1)
	}
	for i := range 1000 {
		f.leave(address(i))
	}
	if f.networks != nil || f.most != 0 {
		t.Errorf("it keeps room for %d networks", f.most)
	}
}
