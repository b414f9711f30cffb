package proxy

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cutover/proxy/metrics"
	"cutover/proxy/upstream"
	"cutover/rules"
)

// site is a proxy on a real socket with v1 and v2 behind it.
type site struct {
	*httptest.Server
	handler *Handler
	views   atomic.Pointer[rules.View]
	rows    rules.Rows
	log     *lockedBuffer // what operators read
	lines   *lockedBuffer // access lines
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// newSite puts a proxy before two handlers; v2 may be nil.
func newSite(t *testing.T, v1, v2 http.Handler, change func(*site)) *site {
	t.Helper()
	visitors, err := LoadVisitors(filepath.Join(t.TempDir(), "visitor.key"))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{log: &lockedBuffer{}, lines: &lockedBuffer{}, rows: rules.Rows{Lineage: "test", Default: rules.DefaultV1}}
	s.rows.Upstreams = []rules.Upstream{{Name: "v1", Targets: target(t, 1, v1)}, {Name: "v2", Targets: target(t, 2, v2)}}
	s.handler = &Handler{
		Views: &s.views, Visitors: visitors, Metrics: metrics.New(), Instance: "test-instance",
		Upstreams: upstream.NewSet(upstream.Options{DialTimeout: time.Second}),
		Log:       slog.New(slog.NewTextHandler(s.log, nil)), Access: NewAccessLog(s.lines, AccessOptions{}),
	}
	if change != nil {
		change(s)
	}
	s.publish(t)
	s.Server = httptest.NewUnstartedServer(s.handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	s.Start()
	t.Cleanup(s.Close)
	t.Cleanup(s.handler.Upstreams.Close)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.handler.Access.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func target(t *testing.T, id int64, h http.Handler) []rules.Target {
	t.Helper()
	if h == nil {
		return nil
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return []rules.Target{{ID: id, URL: server.URL, Weight: 1, State: rules.StateReady}}
}

func (s *site) publish(t *testing.T) {
	t.Helper()
	view, problems := rules.Compile(s.rows, s.views.Load(), time.Now())
	if len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	s.views.Store(view)
}

func (s *site) addRule(host string, percent float64) {
	s.rows.Rules = append(s.rows.Rules, rules.Rule{
		ID: int64(len(s.rows.Rules) + 1), Host: host, Path: "/", Match: rules.KindPrefix, Conditions: "{}",
		V1: "v1", V2: "v2", Percent: percent, Sticky: rules.StickyCookie, Enabled: true, Needs: 1,
	})
}

func trustLoopback(s *site) { s.handler.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// answer is a response with its body read.
type answer struct {
	*http.Response
	body string
}

// get asks the proxy as host; change may change the request. Redirects are not followed.
func (s *site) get(t *testing.T, host, target string, change func(*http.Request)) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	if change != nil {
		change(request)
	}
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response, string(text)}
}

// raw writes bytes to the proxy and returns all that comes back. The bytes must end the connection.
func (s *site) raw(t *testing.T, text string) string {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// says answers with a name.
func says(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
}

// seen keeps the last request that a target got.
type seen struct{ last atomic.Pointer[http.Request] }

func (s *seen) ServeHTTP(_ http.ResponseWriter, r *http.Request) { s.last.Store(r) }

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
