package frontend

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// endless is a handler with tunnels and event streams: /events and /polite end when they are asked to, /deaf and /tunnel
// are never asked, and /stuck has asked but does nothing about it. The rest is as with stages.
type endless struct{ *stages }

func (h endless) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/events":
		ending := Ending(r.Context())
		event(w, "first")
		select {
		case <-ending:
			event(w, "last")
		case <-r.Context().Done():
		}
	case "/deaf":
		event(w, "first")
		<-r.Context().Done()
	case "/stuck":
		_ = Ending(r.Context())
		event(w, "first")
		<-r.Context().Done()
	case "/polite":
		ending := Ending(r.Context())
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		<-ending
		_, _ = io.WriteString(conn, "bye")
	default:
		h.stages.ServeHTTP(w, r)
	}
}

func event(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "Text/Event-Stream; charset=utf-8")
	_, _ = io.WriteString(w, "data: "+text+"\n\n")
	_ = http.NewResponseController(w).Flush()
}

const (
	firstEvent = "data: first\n\n"
	lastEvent  = "data: last\n\n"
)

// events asks for an event stream over HTTP/1.1 and returns it after its first event.
func (w *wire) events(path string) io.Reader {
	w.t.Helper()
	w.send("GET " + path + " HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	answer, err := http.ReadResponse(w.in, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.first(answer.Body)
	return answer.Body
}

func (w *wire) first(body io.Reader) {
	w.t.Helper()
	text := make([]byte, len(firstEvent))
	if _, err := io.ReadFull(body, text); err != nil || string(text) != firstEvent {
		w.t.Fatalf("%q, %v", text, err)
	}
}

// eachHTTP1 runs a test on a raw client in clear text and on one over TLS.
func eachHTTP1(t *testing.T, test func(t *testing.T, site *site, dial func() *wire)) {
	t.Helper()
	t.Run("clear text", func(t *testing.T) {
		site := newSite(t)
		test(t, site, func() *wire { return dial(t, site.plain.Addr().String()) })
	})
	t.Run("TLS", func(t *testing.T) {
		site := newSite(t)
		test(t, site, func() *wire { return dialTLS(t, site, "http/1.1") })
	})
}

func TestAnEventStreamIsNoRequest(t *testing.T) {
	eachHTTP1(t, func(t *testing.T, site *site, dial func() *wire) {
		server := site.serve(t, Options{Handler: endless{newStages()}})
		dial().events("/events")
		f := dialFrames(t, site)
		f.preface()
		f.request(1, "/deaf")
		until(t, "both stream", func() bool { return server.Stats().Streams == 2 })
		if stats := server.Stats(); stats.Requests != 0 {
			t.Errorf("%+v", stats)
		}
		_ = f.Close()
		until(t, "one has ended", func() bool { return server.Stats().Streams == 1 })
	})
}

func TestAnEventStreamOverHTTP1EndsWholeAndEndsItsConnection(t *testing.T) {
	eachHTTP1(t, func(t *testing.T, site *site, dial func() *wire) {
		server := site.serve(t, Options{Handler: endless{newStages()}, IdleGrace: time.Minute})
		c := dial()
		body := c.events("/events")
		result := drainWithin(t, server, time.Minute, Grace{Tunnels: 200 * time.Millisecond})
		if rest, err := io.ReadAll(body); err != nil || string(rest) != lastEvent {
			t.Errorf("the stream ended with %q, %v", rest, err)
		}
		c.ended()
		if err := <-result; err != nil {
			t.Errorf("Drain: %v", err)
		}
	})
}

func TestAnEventStreamOverHTTP2EndsWithEndStream(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, Options{Handler: endless{newStages()}, GoAwayDelay: 20 * time.Millisecond})
	c := dialFrames(t, site)
	c.preface()
	c.request(1, "/events")
	until(t, "it streams", func() bool { return server.Stats().Streams == 1 })
	result := drainWithin(t, server, time.Minute, Grace{Tunnels: 200 * time.Millisecond})
	c.wholeAnswer(1)
	_ = c.Close()
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestATunnelThatAsksIsToldToEnd(t *testing.T) {
	eachHTTP1(t, func(t *testing.T, site *site, dial func() *wire) {
		server := site.serve(t, Options{Handler: endless{newStages()}})
		c := dial()
		c.get("/polite")
		if err := <-drainWithin(t, server, time.Minute, Grace{Tunnels: 100 * time.Millisecond}); err != nil {
			t.Errorf("Drain: %v", err)
		}
		if rest, err := io.ReadAll(c.in); err != nil || string(rest) != "bye" {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

func TestRequestsAreCutAtTheirGraceWhileTunnelsAndStreamsGoOn(t *testing.T) {
	eachHTTP1(t, func(t *testing.T, site *site, dial func() *wire) {
		var lines lockedLines
		handler := endless{newStages()}
		server := site.serve(t, Options{Handler: handler, Log: slog.New(slog.NewTextHandler(&lines, nil))})
		slow, tunnel, streaming := dial(), dial(), dial()
		tunnel.get("/polite")
		body := streaming.events("/events")
		slow.send("GET /slow HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
		<-handler.begun
		began := time.Now()
		result := drainWithin(t, server, time.Minute, Grace{Requests: 100 * time.Millisecond, Tunnels: 2 * time.Second})
		slow.ended()
		if passed := time.Since(began); passed < 100*time.Millisecond || passed > 1400*time.Millisecond {
			t.Errorf("the request was cut after %v", passed)
		}
		if stats := server.Stats(); stats.Tunnels != 1 || stats.Streams != 1 {
			t.Errorf("with the request went others: %+v", stats)
		}
		if rest, err := io.ReadAll(body); err != nil || string(rest) != lastEvent {
			t.Errorf("the stream ended with %q, %v", rest, err)
		}
		if rest, err := io.ReadAll(tunnel.in); err != nil || string(rest) != "bye" {
			t.Errorf("the tunnel ended with %q, %v", rest, err)
		}
		if err := <-result; err != nil {
			t.Errorf("Drain: %v", err)
		}
		if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "requests=1 after=100ms") {
			t.Errorf("the log has %q", got)
		}
	})
}

func TestOverHTTP2ARequestIsResetAtItsGraceAndTheStreamBesideItGoesOn(t *testing.T) {
	site, handler := newSite(t), endless{newStages()}
	server := site.serve(t, Options{Handler: handler, GoAwayDelay: 20 * time.Millisecond})
	c := dialFrames(t, site)
	c.preface()
	c.request(1, "/slow")
	<-handler.begun
	c.request(3, "/events")
	until(t, "it streams", func() bool { return server.Stats().Streams == 1 })
	result := drainWithin(t, server, time.Minute, Grace{Requests: 100 * time.Millisecond, Tunnels: time.Second})
	if stream := c.resetFrame(); stream != 1 {
		t.Errorf("stream %d was reset", stream)
	}
	c.wholeAnswer(3)
	_ = c.Close()
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

// resetFrame waits for an RST_STREAM and returns its stream.
func (f *frames) resetFrame() uint32 {
	f.t.Helper()
	for {
		frame, err := f.ReadFrame()
		f.must(err)
		if reset, ok := frame.(*http2.RSTStreamFrame); ok {
			return reset.StreamID
		}
	}
}

func TestAStreamThatIsNotHeardOfIsCutAndLogged(t *testing.T) {
	for _, path := range []string{"/deaf", "/stuck"} {
		var lines lockedLines
		site := newSite(t)
		server := site.serve(t, Options{
			Handler: endless{newStages()}, PartingGrace: 50 * time.Millisecond, GoAwayDelay: 20 * time.Millisecond,
			Log: slog.New(slog.NewTextHandler(&lines, nil)),
		})
		c, body := dial(t, site.plain.Addr().String()), io.Reader(nil)
		body = c.events(path)
		f := dialFrames(t, site)
		f.preface()
		f.request(1, path)
		until(t, "both stream", func() bool { return server.Stats().Streams == 2 })
		if err := <-drainWithin(t, server, time.Minute, Grace{Tunnels: 100 * time.Millisecond}); err != nil {
			t.Errorf("Drain: %v", err)
		}
		if rest, err := io.ReadAll(body); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s looks whole: %q, %v", path, rest, err)
		}
		if got := lines.String(); !strings.Contains(got, "tunnels=0 event_streams=2") {
			t.Errorf("the log has %q", got)
		}
	}
}

func TestTunnelsAreAskedOneAfterTheOther(t *testing.T) {
	bubble(t, Options{Handler: endless{newStages()}}, func(t *testing.T, server *Server) {
		const count, share = 6, 500 * time.Millisecond
		closed := make(chan time.Time, count)
		for range count {
			c := pipe(server)
			request(t, c, "/polite")
			go watch(c, closed)
		}
		began := time.Now()
		if err := server.Drain(t.Context(), Grace{Tunnels: 12 * time.Second}); err != nil {
			t.Fatal(err)
		}
		var after []time.Duration
		for range count {
			after = append(after, (<-closed).Sub(began))
		}
		slices.Sort(after)
		for i, lived := range after {
			if first := 9*time.Second + time.Duration(i)*share; lived < first || lived > first+share+2*lookEvery {
				t.Errorf("number %d ended after %v, not in the %v from %v", i, lived, share, first)
			}
		}
	})
}

func TestAPlainStopEndsInTimeWithAllKindsOpenAndPolitely(t *testing.T) {
	eachHTTP1(t, func(t *testing.T, site *site, dial func() *wire) {
		handler := endless{newStages()}
		server := site.serve(t, Options{Handler: handler})
		slow, polite, deaf, streaming := dial(), dial(), dial(), dial()
		polite.get("/polite")
		deaf.get("/tunnel")
		body := streaming.events("/events")
		dial().events("/stuck")
		slow.send("GET /slow HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
		<-handler.begun
		f := dialFrames(t, site)
		f.preface()
		f.request(1, "/slow")
		<-handler.begun
		f.request(3, "/stuck")
		until(t, "all stream", func() bool { return server.Stats().Streams == 3 })
		began := time.Now()
		err := <-drainOf(t, server, 6*time.Second)
		if passed := time.Since(began); passed > 9*time.Second {
			t.Errorf("it took %v", passed)
		}
		if err == nil || !strings.Contains(err.Error(), "0 tunnels) with 2 requests and 2 event streams in flight") {
			t.Errorf("Drain: %v", err)
		}
		if rest, err := io.ReadAll(body); err != nil || string(rest) != lastEvent {
			t.Errorf("the stream ended with %q, %v", rest, err)
		}
		if rest, err := io.ReadAll(polite.in); err != nil || string(rest) != "bye" {
			t.Errorf("the tunnel ended with %q, %v", rest, err)
		}
	})
}

func TestGraceGivesWayToTheDeadline(t *testing.T) {
	began := time.Unix(1000, 0)
	for _, c := range []struct {
		tunnels, deadline, first, last time.Duration // from the begin; 0 means none
	}{
		{0, 0, 0, 0},
		{30 * time.Minute, 0, 29 * time.Minute, 30 * time.Minute},
		{30 * time.Minute, time.Hour, 29 * time.Minute, 30 * time.Minute},
		{40 * time.Second, 0, 30 * time.Second, 40 * time.Second},
		{30 * time.Minute, 45 * time.Second, 30 * time.Second, 40 * time.Second},
		{0, 45 * time.Second, 30 * time.Second, 40 * time.Second},
		{0, 1600 * time.Millisecond, 900 * time.Millisecond, 1200 * time.Millisecond},
	} {
		want, deadline := window{}, time.Time{}
		if c.last > 0 {
			want = window{began.Add(c.first), began.Add(c.last)}
		}
		if c.deadline > 0 {
			deadline = began.Add(c.deadline)
		}
		if got := (Grace{Tunnels: c.tunnels}).parting(began, deadline, 5*time.Second); got != want {
			t.Errorf("tunnels %v, deadline %v: %v, want %v", c.tunnels, c.deadline, got, want)
		}
	}
}

func TestOutsideOfAServerNothingIsEverToEnd(t *testing.T) {
	if Ending(t.Context()) != nil {
		t.Error("there is a channel")
	}
}

func TestWhoAsksLateLearnsThatItIsTimeAlready(t *testing.T) {
	w := &work{}
	if w.ask() {
		t.Error("somebody listens")
	}
	<-w.awaitEnding()
	if !w.ask() {
		t.Error("nobody listens")
	}
}

// lockedLines is a log in memory.
type lockedLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// The end of an answer is net/http's to send, after the handler has returned.
func TestAnAnswerWhoseHandlerHasJustReturnedIsNotCut(t *testing.T) {
	s := New(Options{})
	client, ours := net.Pipe()
	defer func() { _ = client.Close() }()
	c := s.known.newConnection(ours)
	s.known.add(c)
	now := time.Now()
	c.since.Store(now.Add(-time.Minute).UnixNano())
	c.state.Store(int32(http.StateActive))
	s.newAnswer(httptest.NewRecorder(), c).finish()
	d := newDrain(t.Context(), s, Grace{Requests: time.Millisecond})
	d.began = now.Add(-time.Minute)
	cut := func() bool {
		_ = client.SetReadDeadline(time.Unix(1, 0))
		_, err := client.Read(make([]byte, 1))
		return errors.Is(err, io.EOF)
	}
	if d.cutRequests(s.known.list(), now); cut() {
		t.Error("it is cut at once")
	}
	if d.cutRequests(s.known.list(), now.Add(2*lastBytes)); !cut() {
		t.Error("it is never cut")
	}
}
