package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cutover/rules"
)

// endless is a body that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// resting is a target that sends a header and a byte, and then rests until it is released or nobody listens.
func resting(t *testing.T, kind string) (url string, release chan struct{}) {
	t.Helper()
	release = make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
			_, _ = io.WriteString(w, "b")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, release
}

func TestAnAnswerWhoseBodyRestsIsEnded(t *testing.T) {
	url, _ := resting(t, "text/plain")
	u := upstreamOf(url)
	u.Timeouts.Idle = 0.2
	set := newSet(t, Options{})
	text, err := do(t.Context(), t, set.For(u), http.MethodGet, "")
	if !strings.HasPrefix("a", text) || !errors.Is(err, errIdle) || Cause(err) != "timeout" {
		t.Errorf("%q, %v", text, err)
	}
	if s := set.Status()[0].Targets[0]; s.Failures != 1 || s.InFlight != 0 || !strings.Contains(s.LastError, "idle_timeout") {
		t.Errorf("%+v", s)
	}
}

func TestAStreamOfEventsMayRest(t *testing.T) {
	url, release := resting(t, "text/event-stream; charset=utf-8")
	u := upstreamOf(url)
	u.Timeouts.Idle = 0.02
	timer := time.AfterFunc(200*time.Millisecond, func() { close(release) })
	defer timer.Stop()
	if text, err := do(t.Context(), t, newSet(t, Options{}).For(u), http.MethodGet, ""); err != nil || text != "ab" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestAnAnswerThatIsReadSlowlyIsNotIdle(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ab") }))
	t.Cleanup(server.Close)
	u := upstreamOf(server.URL)
	u.Timeouts.Idle = 5
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	response, err := newSet(t, Options{}).For(u).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body := response.Body.(*watchedBody).ReadCloser.(*idleDownload)
	if _, err := io.ReadFull(response.Body, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if body.idle.down.Stop() {
		t.Error("time goes by while nobody reads")
	}
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "b" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestAnUploadThatTheTargetDoesNotTakeIsEnded(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(protocol, func(t *testing.T) {
			ended := make(chan struct{})
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-ended }))
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetHTTP1(protocol == "HTTP/1.1")
			server.Config.Protocols.SetUnencryptedHTTP2(protocol == "HTTP/2")
			server.Start()
			t.Cleanup(server.Close)
			defer close(ended)
			u := upstreamOf(server.URL)
			if protocol == "HTTP/2" {
				u.Targets[0].URL = strings.Replace(server.URL, "http:", "h2c:", 1)
			}
			u.Timeouts.Idle = 0.2
			set := newSet(t, Options{})
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.NopCloser(endless{}))
			_, err := set.For(u).RoundTrip(r)
			if !errors.Is(err, errIdle) || Cause(err) != "timeout" {
				t.Errorf("got %v", err)
			}
			if s := set.Status()[0].Targets[0]; s.Failures != 1 || s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestAVisitorWhoUploadsSlowlyIsNotTheTargetsFault(t *testing.T) {
	u := upstreamOf("http://127.0.0.1:1")
	u.Timeouts.Idle = 60
	_, i := newSet(t, Options{}).For(u).withIdle(t.Context(), false)
	defer i.over()
	source := &slowly{make(chan struct{}), make(chan byte)}
	body := i.upload(io.NopCloser(source))
	var transport sync.WaitGroup
	for _, c := range []byte("ab") {
		transport.Go(func() { _, _ = body.Read(make([]byte, 1)) })
		<-source.asked
		if i.up.Stop() {
			t.Error("time goes by while the visitor is waited for")
		}
		source.text <- c
		transport.Wait()
	}
	if !i.up.Stop() {
		t.Error("time stands still while the target has something to take")
	}
}

func TestAConnectionIsWaitedForAsLongAsTheRowSays(t *testing.T) {
	u := upstreamOf(blackHole(t))
	u.Timeouts.Connect = 0.05
	_, err := do(t.Context(), t, newSet(t, Options{DialTimeout: time.Hour}).For(u), http.MethodGet, "")
	if !errors.Is(err, ErrUnreachable) || !IsTimeout(err) {
		t.Errorf("got %v", err)
	}
}

func TestAHandshakeIsWaitedForAsLongAsTheRowSays(t *testing.T) {
	u := upstreamOf(strings.Replace(silent(t), "http:", "https:", 1))
	u.Timeouts.TLS = 0.05
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := do(ctx, t, newSet(t, Options{}).For(u), http.MethodGet, "")
	if !errors.Is(err, ErrUnreachable) || !IsTimeout(err) || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}

// silent is a socket that accepts connections, on which nobody says a word.
func silent(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	t.Cleanup(func() { _ = server.Listener.Close() })
	return "http://" + server.Listener.Addr().String()
}

func TestZeroTimeoutsAreThoseOfEveryUpstream(t *testing.T) {
	c := newConnections(Options{}, rules.Address{Network: "tcp"}, manner{})
	if c.connectTimeout() != 3*time.Second || c.manner.tlsTimeout() != 5*time.Second {
		t.Errorf("%v, %v", c.connectTimeout(), c.manner.tlsTimeout())
	}
}

func TestAnApplicationMayThinkForLongerThanNothingMayMove(t *testing.T) {
	release := make(chan struct{})
	url, _ := goApplication(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		<-release
		_, _ = w.Write(body)
	})
	u := upstreamOf(url)
	u.Timeouts.Idle = 0.5
	enough := sync.OnceFunc(func() { close(release) })
	defer enough()
	timer := time.AfterFunc(1500*time.Millisecond, enough)
	defer timer.Stop()
	if text, err := do(t.Context(), t, newSet(t, Options{}).For(u), http.MethodPost, "small"); err != nil || text != "small" {
		t.Errorf("%q, %v", text, err)
	}
}

// net/http gives a stream up that was refused, and reads the body again for the next one.
func TestABodyThatIsReadAgainIsWatchedAndTheOneBeforeNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := upstreamOf("http://127.0.0.1:1")
		u.Timeouts.Idle = 1
		_, idle := NewSet(Options{}).For(u).withIdle(t.Context(), false)
		source, visitor := io.Pipe()
		first := idle.upload((&keptBody{source: source, most: 1 << 10}).open())
		go func() { _, _ = first.Read(make([]byte, 10)) }()
		synctest.Wait()
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		second, err := again(first)()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := visitor.Write([]byte("some")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if idle.expired.Load() {
			t.Error("the clock of a reader that was closed runs on")
		}
		if n, err := second.Read(make([]byte, 10)); err != nil || n != 4 {
			t.Errorf("%d bytes, %v", n, err)
		}
		time.Sleep(2 * time.Second)
		if !idle.expired.Load() {
			t.Error("nobody watches how what is read again is taken")
		}
	})
}
