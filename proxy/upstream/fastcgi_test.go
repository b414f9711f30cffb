package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cutover/rules"
)

// openListener notes the connections that it accepts, and closes them in the end: Go's FastCGI server never does.
type openListener struct {
	net.Listener

	mu   sync.Mutex
	open []net.Conn
}

func (l *openListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.open = append(l.open, c)
		l.mu.Unlock()
	}
	return c, err
}

func (l *openListener) accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

// application is a FastCGI application on a socket.
func application(t *testing.T, serve func(l net.Listener)) (url string, listener *openListener) {
	t.Helper()
	folder, err := os.MkdirTemp("", "fcgi") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "app.sock")
	inner, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	listener = &openListener{Listener: inner}
	var serving sync.WaitGroup
	serving.Go(func() { serve(listener) })
	t.Cleanup(func() {
		_ = inner.Close()
		serving.Wait()
		listener.mu.Lock()
		defer listener.mu.Unlock()
		for _, c := range listener.open {
			_ = c.Close()
		}
		_ = os.RemoveAll(folder)
	})
	return "fcgi+unix:" + path, listener
}

func goApplication(t *testing.T, handler http.HandlerFunc) (url string, listener *openListener) {
	t.Helper()
	return application(t, func(l net.Listener) { _ = fcgi.Serve(l, handler) })
}

// rawApplication answers each connection with the same bytes once the request's end has come, or closes it.
func rawApplication(t *testing.T, answer string) (url string, listener *openListener) {
	t.Helper()
	return application(t, func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 64<<10)
			n, _ := c.Read(buffer) // a small request comes at once
			_, _ = io.WriteString(c, strings.Repeat(answer, min(1, n)))
			_ = c.Close()
		}
	})
}

func TestAFastCGIApplicationIsToldWhereARequestCameFrom(t *testing.T) {
	url, listener := goApplication(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %v %s %s %s", r.Method, r.RemoteAddr, r.TLS != nil, r.URL.RequestURI(), body, fcgi.ProcessEnv(r)["APP_ENV"])
	})
	u := upstreamOf(url)
	u.FastCGI = rules.FastCGI{Params: `{"APP_ENV":"live"}`, Keep: 2}
	p := newSet(t, Options{}).For(u)
	ctx := WithOrigin(t.Context(), Origin{Client: netip.MustParseAddrPort("192.0.2.7:4711"), HTTPS: true})
	for range 3 {
		if text, err := do(ctx, t, p, http.MethodPut, "body"); err != nil || text != "PUT 192.0.2.7:4711 true / body live" {
			t.Errorf("%q, %v", text, err)
		}
	}
	if n := listener.accepted(); n != 1 {
		t.Errorf("%d connections", n)
	}
	next := upstreamOf(url)
	next.FastCGI.Params = `{"APP_ENV":"test"}`
	set := newSet(t, Options{})
	set.For(u)
	if text, err := do(ctx, t, set.For(next), http.MethodGet, ""); err != nil || !strings.HasSuffix(text, "test") {
		t.Errorf("after a change: %q, %v", text, err)
	}
}

func TestAVisitorWhoSendsSlowlyOccupiesNoWorkerOfFastCGI(t *testing.T) {
	url, listener := goApplication(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, r.ContentLength)
	})
	p := newSet(t, Options{}).For(upstreamOf(url))
	for _, length := range []int64{-1, 100_001} {
		before := listener.accepted()
		from, to := io.Pipe()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", from)
		r.ContentLength = length
		got := make(chan string, 1)
		go func() {
			defer close(got)
			response, err := p.RoundTrip(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = response.Body.Close() }()
			text, _ := io.ReadAll(response.Body)
			got <- string(text)
		}()
		_, _ = io.WriteString(to, strings.Repeat("x", 100_000))
		if n := listener.accepted() - before; n != 0 {
			t.Errorf("%d connections were made before the body had come", n)
		}
		_, _ = io.WriteString(to, "x")
		_ = to.Close()
		if text := <-got; text != "100001 100001" {
			t.Errorf("got %q", text)
		}
	}
}

func TestABodyThatBreaksOffReachesNoApplicationAndIsTheVisitorsFailure(t *testing.T) {
	url, listener := goApplication(t, func(http.ResponseWriter, *http.Request) {})
	p := newSet(t, Options{}).For(upstreamOf(url))
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.MultiReader(strings.NewReader("x"), failing{}))
	response, err := p.RoundTrip(r)
	if err == nil {
		_ = response.Body.Close()
	}
	if Cause(err) != "request" || listener.accepted() != 0 {
		t.Errorf("%v, %d connections", err, listener.accepted())
	}
}

func TestABodyIsRefusedOnlyIfItSaysNoLengthAndCannotBeKept(t *testing.T) {
	url, _ := goApplication(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n)
	})
	set := newSet(t, Options{})
	set.bodies.Most = 100 << 10
	p := set.For(upstreamOf(url))
	send := func(length int64) (string, error) {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 200<<10))})
		r.ContentLength = length
		response, err := p.RoundTrip(r)
		if err != nil {
			return "", err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		return string(text), err
	}
	if _, err := send(-1); StatusFor(err) != http.StatusRequestEntityTooLarge {
		t.Errorf("without a length: %v", err)
	}
	if text, err := send(200 << 10); err != nil || text != "204800" {
		t.Errorf("with one: %q, %v", text, err)
	}
	set.bodies.Most, set.bodies.Total = 1<<20, 1
	if _, err := send(-1); StatusFor(err) != http.StatusServiceUnavailable {
		t.Errorf("without room: %v", err)
	}
}

func TestARequestGoesToAnotherApplicationOnlyWhereThatDoesNoHarm(t *testing.T) {
	gone, listener := goApplication(t, nil)
	_ = listener.Close()
	well, _ := goApplication(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	broken, hits := rawApplication(t, "\x01\x06\x00\x01\x00\x05\x00\x00X: y\n")
	refused := errors.New("refused")
	for _, c := range []struct {
		first, method string
		err           error
	}{{gone, http.MethodPost, nil}, {broken, http.MethodGet, nil}, {broken, http.MethodPost, refused}} {
		for range 20 { // which one is asked first is drawn
			before := hits.accepted()
			_, err := do(t.Context(), t, newSet(t, Options{}).For(upstreamOf(c.first, well)), c.method, strings.Repeat("body", map[string]int{http.MethodPost: 1}[c.method]))
			if wasFirst := hits.accepted() > before; wasFirst && (err == nil) != (c.err == nil) || !wasFirst && err != nil {
				t.Errorf("%s %s: %v", c.method, c.first, err)
			}
		}
	}
}

func TestAnApplicationThatIsOverloadedSaysSoToTheVisitor(t *testing.T) {
	url, _ := rawApplication(t, "\x01\x03\x00\x01\x00\x08\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00")
	_, err := do(t.Context(), t, newSet(t, Options{}).For(upstreamOf(url)), http.MethodGet, "")
	if StatusFor(err) != http.StatusServiceUnavailable {
		t.Errorf("got %v", err)
	}
}

func TestWhatAnApplicationSaysIsLoggedWithTheRequestAndWithinBounds(t *testing.T) {
	url, _ := rawApplication(t, "\x01\x07\x00\x01\x00\x07\x00\x00oh\x1b dear"[:15]+"\x01\x06\x00\x01\x00\x02\x00\x00\n\n\x01\x03\x00\x01\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	var log bytes.Buffer
	p := newSet(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}).For(upstreamOf(url))
	ctx := WithOrigin(t.Context(), Origin{RequestID: "abc"})
	if _, err := do(ctx, t, p, http.MethodGet, ""); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); !strings.Contains(got, `line="oh\x1b dea"`) || !strings.Contains(got, "request_id=abc") || !strings.Contains(got, url) {
		t.Error(got)
	}
	again := newComplaints(p.set.options, p.targets[0].connections.address)
	for range 3 * complaintsAtOnce {
		again.write(context.Background(), "again")
	}
	if n := strings.Count(log.String(), "\n"); n > 2*complaintsAtOnce {
		t.Errorf("%d lines", n)
	}
}

func TestAFastCGIApplicationIsCheckedByItsScript(t *testing.T) {
	root := t.TempDir()
	url, _ := goApplication(t, func(w http.ResponseWriter, r *http.Request) {
		if name := fcgi.ProcessEnv(r)["SCRIPT_FILENAME"]; name != root+"/up.php" && name != root+"/ping" {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = io.WriteString(w, "well")
	})
	if err := os.WriteFile(filepath.Join(root, "up.php"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, well := range map[string]bool{"/up.php": true, "/ping": true, "/down.php": false} {
		u := upstreamOf(url)
		u.FastCGI.Root = root
		u.Check = checkOf(path)
		s, _ := watched(t, u)
		if health := &s.For(u).targets[0].state.health; well {
			eventually(t, "a good check of "+path, func() bool { return health.isGood(1) })
		} else {
			eventually(t, "a bad check of "+path, func() bool { return health.failing.Load() != nil })
		}
	}
}

// nobodyAnswers is an upstream whose application is gone, but not its script, /index.php, nor the folder /inner/.
func nobodyAnswers(t *testing.T) *rules.Upstream {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "inner"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"index.php", "inner/index.php"} {
		if err := os.WriteFile(filepath.Join(root, script), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u := upstreamOf("fcgi+unix:" + filepath.Join(root, "nobody.sock"))
	u.FastCGI.Root = root
	return u
}

// statusOf asks for a path.
func statusOf(t *testing.T, p *Pool, method, path string) (int, error) {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), method, path, nil)
	response, err := p.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// Whatever a path that names no script, a folder without its slash or a hostile one is answered with, the application was not asked.
func TestWhatIsAnsweredWithoutTheApplicationSaysNothingOfIt(t *testing.T) {
	p := newSet(t, Options{}).For(nobodyAnswers(t))
	for range 5 {
		if _, err := statusOf(t, p, http.MethodGet, "/index.php"); !errors.Is(err, ErrUnreachable) {
			t.Fatal(err)
		}
		for path, want := range map[string]int{"/nothing.png": 404, "/inner": 301, "/%2e%2e/x": 400} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if status, err := statusOf(t, p, method, path); err != nil || status != want {
					t.Fatalf("%s %s: %d, %v", method, path, status, err)
				}
			}
		}
	}
	if s := p.targets[0].status(); s.FailingSince.IsZero() || s.Latency != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

func TestWhatIsAnsweredWithoutTheApplicationClosesNoBreaker(t *testing.T) {
	u := nobodyAnswers(t)
	u.Breaker = rules.Breaker{Percent: 50, Requests: 3, Pause: 0.02}
	p := newSet(t, Options{}).For(u)
	eventually(t, "the breaker to open", func() bool {
		_, err := statusOf(t, p, http.MethodGet, "/index.php")
		return errors.Is(err, ErrOpen)
	})
	eventually(t, "a request that may try", func() bool {
		status, _ := statusOf(t, p, http.MethodGet, "/nothing.png")
		return status == http.StatusNotFound
	})
	if p.breaker.state() == nil {
		t.Error("it closes, and the application is gone")
	}
	if _, err := statusOf(t, p, http.MethodGet, "/index.php"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("the next does not try: %v", err)
	}
}

func TestACheckThatTheApplicationIsNotAskedForIsABadOne(t *testing.T) {
	p := newSet(t, Options{}).For(nobodyAnswers(t))
	look := task{"v1", p.targets[0], rules.Check{Path: "/inner", Timeout: 60, Status: "200-399"}}
	if err := look.look(t.Context()); !errors.Is(err, errNotAsked) {
		t.Errorf("nobody listens, and the check says %v", err)
	}
}

// counting counts what is read of a body.
type counting struct {
	io.Reader
	read int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += n
	return n, err
}

// uploadCounted sends a body whose reader counts.
func uploadCounted(t *testing.T, p *Pool, body *counting, length int64) error {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/index.php", body)
	r.ContentLength = length
	response, err := p.RoundTrip(r)
	if err == nil {
		err = response.Body.Close()
	}
	return err
}

func TestNothingIsReadOfABodyThatIsRefused(t *testing.T) {
	open, full := nobodyAnswers(t), nobodyAnswers(t)
	open.Breaker = rules.Breaker{Percent: 50, Requests: 1, Pause: 3600}
	full.Room = rules.Room{MaxInFlight: 1}
	set := newSet(t, Options{})
	if _, err := statusOf(t, set.For(open), http.MethodGet, "/index.php"); !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}
	full.Name = "full"
	set.For(full).targets[0].occupy()
	for want, u := range map[error]*rules.Upstream{ErrOpen: open, ErrFull: full} {
		const size = 1 << 20
		body := &counting{Reader: strings.NewReader(strings.Repeat("y", size))}
		if err := uploadCounted(t, set.For(u), body, size); !errors.Is(err, want) || body.read > 0 {
			t.Errorf("%v, and %d bytes are read", err, body.read)
		}
	}
}

func TestABodyInAFileIsForgottenOnceItWasSentThoughTheAnswerIsNotRead(t *testing.T) {
	url, _ := goApplication(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", 4<<20))
	})
	const size = 1 << 20
	set := newSet(t, Options{})
	set.bodies.Total = size
	p := set.For(upstreamOf(url))
	send := func() (*http.Response, error) {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", struct{ io.Reader }{strings.NewReader(strings.Repeat("y", size))})
		return p.RoundTrip(r)
	}
	first, err := send()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "room for another visitor's", func() bool {
		second, err := send()
		if err == nil {
			err = second.Body.Close()
		}
		return err == nil
	})
	if n, err := io.Copy(io.Discard, first.Body); n != 4<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := first.Body.Close(); err != nil {
		t.Error(err)
	}
}
