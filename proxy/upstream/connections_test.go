package upstream

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cutover/rules"
)

// script is a target that counts connections and lets a test say what happens to each request: true closes the
// connection without an answer.
type script struct {
	*httptest.Server
	connections, requests atomic.Int64
	closed                chan struct{} // a connection was closed
	cut, always           atomic.Bool
}

func newScript(t *testing.T) *script {
	t.Helper()
	return serveOn(t, "127.0.0.1:0")
}

func serveOn(t *testing.T, address string) *script {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{closed: make(chan struct{}, 100)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		if s.cut.Swap(false) || s.always.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.connections.Add(1)
		case http.StateClosed:
			s.closed <- struct{}{}
		}
	}
	_ = s.Listener.Close()
	s.Listener = listener
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(20 * time.Second); !is(); <-again.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// upstreamOf returns an upstream as it is by default; its timeouts are those of Options.
func upstreamOf(targets ...string) *rules.Upstream {
	u := new(rules.DefaultUpstream())
	u.Name, u.Timeouts = "v1", rules.Timeouts{}
	for i, url := range targets {
		u.Targets = append(u.Targets, rules.Target{ID: int64(i + 1), Upstream: "v1", URL: url, Weight: 1, State: rules.StateReady})
	}
	return u
}

// do sends a request to a pool and returns its answer's body.
func do(ctx context.Context, t *testing.T, p *Pool, method, body string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	response, err := p.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

func wait(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
}

func TestARequestThatMayBeRepeatedSurvivesADyingConnection(t *testing.T) {
	s := newScript(t)
	p := newSet(t, Options{}).For(upstreamOf(s.URL))
	for _, cut := range []bool{false, true} {
		s.cut.Store(cut)
		if text, err := do(t.Context(), t, p, http.MethodGet, ""); err != nil || text != "ok" {
			t.Fatalf("%q, %v", text, err)
		}
	}
	if s.requests.Load() != 3 || s.connections.Load() != 2 {
		t.Errorf("%d requests on %d connections", s.requests.Load(), s.connections.Load())
	}
}

func TestATargetThatVanishesUnderAnOldConnectionPassesOnWhatMayBeRepeated(t *testing.T) {
	a, b := newScript(t), newScript(t)
	p := newSet(t, Options{}).For(upstreamOf(a.URL, b.URL))
	for a.requests.Load() == 0 {
		if _, err := do(t.Context(), t, p, http.MethodGet, ""); err != nil {
			t.Fatal(err)
		}
	}
	_ = a.Listener.Close()
	a.cut.Store(true)
	for a.requests.Load() == 1 {
		if text, err := do(t.Context(), t, p, http.MethodGet, ""); err != nil || text != "ok" {
			t.Fatalf("%q, %v", text, err)
		}
	}
	if a.requests.Load() != 2 {
		t.Errorf("%d requests", a.requests.Load())
	}
}

func TestARequestThatMayNotBeRepeatedIsSentOnce(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		s := newScript(t)
		p := newSet(t, Options{}).For(upstreamOf(s.URL))
		if _, err := do(t.Context(), t, p, method, "x"); err != nil {
			t.Fatal(err)
		}
		s.cut.Store(true)
		if _, err := do(t.Context(), t, p, method, "x"); Cause(err) != "broken" {
			t.Errorf("%s: %v", method, err)
		}
		if s.requests.Load() != 2 {
			t.Errorf("%s came %d times", method, s.requests.Load())
		}
	}
}

func TestARequestThatMayNotBeRepeatedTrustsNoConnectionThatHasRested(t *testing.T) {
	s := newScript(t)
	p := newSet(t, Options{}).For(upstreamOf(s.URL))
	began := time.Now()
	if _, err := do(t.Context(), t, p, http.MethodPost, "x"); err != nil {
		t.Fatal(err)
	}
	wait(t, "the connection to be given up", s.closed)
	if rested := time.Since(began); rested < idleUnrepeatable || rested > 2*time.Second {
		t.Errorf("it was given up after %v", rested)
	}
}

func TestUploadsInARowShareAConnection(t *testing.T) {
	s := newScript(t)
	p := newSet(t, Options{}).For(upstreamOf(s.URL))
	for range 10 {
		if _, err := do(t.Context(), t, p, http.MethodPost, "x"); err != nil {
			t.Fatal(err)
		}
		lanes := p.targets[0].connections.unrepeatable
		eventually(t, "the connection to be free", func() bool { lanes.mu.Lock(); defer lanes.mu.Unlock(); return len(lanes.free) == 1 })
	}
	if n := s.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestAnUploadNeverTakesAConnectionThatRestsForLong(t *testing.T) {
	s := newScript(t)
	p := newSet(t, Options{}).For(upstreamOf(s.URL))
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		if _, err := do(t.Context(), t, p, method, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.connections.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

func TestHTTPSTargetsMustProveTheirName(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.TLS.ServerName)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	if text, err := do(t.Context(), t, newSet(t, Options{Roots: roots}).For(upstreamOf(server.URL)), http.MethodGet, ""); err != nil || text != "HTTP/1.1 " {
		t.Errorf("known: %q, %v", text, err)
	}
	_, err := do(t.Context(), t, newSet(t, Options{Roots: x509.NewCertPool()}).For(upstreamOf(server.URL)), http.MethodPost, "x")
	var unknown *tls.CertificateVerificationError
	if !errors.As(err, &unknown) || !errors.Is(err, ErrUnreachable) || Cause(err) != "dial" {
		t.Errorf("unknown: %v", err)
	}
}

func TestHTTPSTargetsAreAskedForByTheirOwnName(t *testing.T) {
	var asked atomic.Value
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked.Store(hello.ServerName + " " + strings.Join(hello.SupportedProtos, ","))
		return nil, nil
	}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	_, err := do(t.Context(), t, newSet(t, Options{Roots: roots}).For(upstreamOf(strings.Replace(server.URL, "127.0.0.1", "localhost", 1))), http.MethodGet, "")
	var other x509.HostnameError
	if !errors.As(err, &other) || asked.Load() != "localhost " {
		t.Errorf("asked for %q: %v", asked.Load(), err)
	}
}

func TestATargetWhoseTLSFailsPassesTheRequestOn(t *testing.T) {
	bad := httptest.NewUnstartedServer(http.NotFoundHandler())
	bad.Config.ErrorLog = log.New(io.Discard, "", 0)
	bad.StartTLS()
	t.Cleanup(bad.Close)
	good := newScript(t)
	p := newSet(t, Options{Roots: x509.NewCertPool()}).For(upstreamOf(bad.URL, good.URL))
	for range 20 { // which one is asked first is drawn
		if text, err := do(t.Context(), t, p, http.MethodPost, "x"); err != nil || text != "ok" {
			t.Errorf("%q, %v", text, err)
		}
	}
}

// blackHole is a socket whose queue is full and from which nobody takes, so that connecting to it takes for ever.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 20 {
		c, err := (&net.Dialer{Timeout: 50 * time.Millisecond}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			return "http://" + address
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the queue of a socket never fills")
	return ""
}

func TestATargetThatDoesNotConnectInTimeIsATimeoutAndPassesTheRequestOn(t *testing.T) {
	dialing := Options{DialTimeout: 50 * time.Millisecond}
	_, err := do(t.Context(), t, newSet(t, dialing).For(upstreamOf(blackHole(t))), http.MethodGet, "")
	if !errors.Is(err, ErrUnreachable) || Cause(err) != "dial" || !IsTimeout(err) {
		t.Errorf("alone: %v", err)
	}
	good := newScript(t)
	p := newSet(t, dialing).For(upstreamOf(blackHole(t), good.URL))
	if text, err := do(t.Context(), t, p, http.MethodPost, "x"); err != nil || text != "ok" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestATargetThatDoesNotAnswerInTimeIsATimeoutAndNoOtherIsAsked(t *testing.T) {
	release := make(chan struct{})
	u := upstreamOf()
	u.ResponseTimeout = 0.05
	for range 2 {
		slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		t.Cleanup(slow.Close)
		u.Targets = append(u.Targets, rules.Target{URL: slow.URL, Weight: 1, State: rules.StateReady})
	}
	t.Cleanup(func() { close(release) })
	set := newSet(t, Options{})
	_, err := do(t.Context(), t, set.For(u), http.MethodGet, "")
	targets := set.Status()[0].Targets
	if asked := targets[0].Requests + targets[1].Requests; !IsTimeout(err) || Cause(err) != "timeout" || asked != 1 {
		t.Errorf("%v, and %d were asked", err, asked)
	}
}

func TestTheTimeoutDoesNotCutAnAnswerThatTakesLonger(t *testing.T) {
	more := make(chan struct{})
	long := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, "b")
	}))
	t.Cleanup(long.Close)
	u := upstreamOf(long.URL)
	u.ResponseTimeout = 0.05
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	response, err := newSet(t, Options{}).For(u).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	timer := time.AfterFunc(150*time.Millisecond, func() { close(more) })
	defer timer.Stop()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "ab" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestAVisitorWhoLeavesIsCountedAsNobodysFailure(t *testing.T) {
	arrived := make(chan struct{})
	waiting := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(arrived); <-r.Context().Done() }))
	t.Cleanup(waiting.Close)
	set := newSet(t, Options{OnFailure: func(string, string, string) { t.Error("a failure was reported") }})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := do(ctx, t, set.For(upstreamOf(waiting.URL)), http.MethodGet, ""); Cause(err) != "canceled" {
			t.Errorf("got %v", err)
		}
	})
	wait(t, "the request", arrived)
	if s := set.Status()[0].Targets[0]; s.InFlight != 1 || s.Requests != 1 {
		t.Errorf("meanwhile: %+v", s)
	}
	cancel()
	group.Wait()
	if s := set.Status()[0].Targets[0]; s.InFlight != 0 || s.Failures != 0 {
		t.Errorf("afterwards: %+v", s)
	}
}

func TestABodyThatCannotBeReadIsTheVisitorsFailure(t *testing.T) {
	s := newScript(t)
	set := newSet(t, Options{})
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.MultiReader(strings.NewReader("x"), failing{}))
	_, err := set.For(upstreamOf(s.URL)).RoundTrip(r)
	if Cause(err) != "request" || set.Status()[0].Targets[0].Failures != 0 {
		t.Errorf("%v, %+v", err, set.Status())
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("bad chunk") }

func TestARequestThatNobodyCouldSendIsNotTriedOnEveryTarget(t *testing.T) {
	a, b := newScript(t), newScript(t)
	set := newSet(t, Options{})
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header["Bad Name"] = []string{"x"}
	_, err := set.For(upstreamOf(a.URL, b.URL)).RoundTrip(r)
	status := set.Status()[0].Targets
	if err == nil || status[0].Requests+status[1].Requests != 1 {
		t.Errorf("%v, %+v", err, status)
	}
}

func TestATunnelIsInFlightUntilItIsClosedAndCanEndByHalves(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		all, _ := io.ReadAll(both)
		_, _ = c.Write(all)
	}))
	t.Cleanup(server.Close)
	set := newSet(t, Options{})
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
	response, err := set.For(upstreamOf(server.URL)).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	tunnel := response.Body.(io.ReadWriteCloser)
	_, _ = io.WriteString(tunnel, "hello")
	if err := tunnel.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(bufio.NewReader(tunnel)); err != nil || string(text) != "hello" {
		t.Errorf("%q, %v", text, err)
	}
	if n := set.Status()[0].Targets[0].InFlight; n != 1 {
		t.Errorf("open: %d in flight", n)
	}
	for range 2 {
		_ = tunnel.Close()
	}
	if n := set.Status()[0].Targets[0].InFlight; n != 0 {
		t.Errorf("closed: %d in flight", n)
	}
}

func TestRequestsOfTheLastViewDoNotUndoAChange(t *testing.T) {
	set := newSet(t, Options{})
	before, after := upstreamOf("http://127.0.0.1:1"), upstreamOf("http://127.0.0.1:2")
	old := set.For(before)
	changed := set.For(after)
	for range 3 {
		if set.For(before) != old || set.For(after) != changed {
			t.Fatal("two views of an upstream replace each other's pools")
		}
	}
	if url := set.Status()[0].Targets[0].URL; url != "http://127.0.0.1:2" {
		t.Errorf("the status is that of %s", url)
	}
}

func TestAChangeThatLeavesTheTargetsKeepsTheirConnections(t *testing.T) {
	s := newScript(t)
	set := newSet(t, Options{})
	for weight := range 3 {
		u := upstreamOf(s.URL)
		u.Targets[0].Weight = weight + 1
		if _, err := do(t.Context(), t, set.For(u), http.MethodGet, ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.connections.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

func TestClosingASetClosesWhatIdles(t *testing.T) {
	s := newScript(t)
	set := NewSet(Options{})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		if _, err := do(t.Context(), t, set.For(upstreamOf(s.URL)), method, ""); err != nil {
			t.Fatal(err)
		}
	}
	set.Close()
	wait(t, "a connection to close", s.closed)
	wait(t, "the other to close", s.closed)
}
