package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

func TestHostPathAndQueryReachTheTargetByteForByte(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	s.raw(t, "GET /a%2Fb//c;d?x=1;y=%zz&&=&a%20 HTTP/1.1\nHost: Shop.Example.com:8080\nConnection: close\n\n")
	r := got.last.Load()
	if r.Host != "Shop.Example.com:8080" || r.RequestURI != "/a%2Fb//c;d?x=1;y=%zz&&=&a%20" {
		t.Errorf("the target saw %q and %q", r.Host, r.RequestURI)
	}
}

func TestForwardingHeadersOfStrangersAreDropped(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	s.get(t, "a.test", "/", func(r *http.Request) {
		for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-Ip", "X-Cutover-Version", "X-Request-Id"} {
			r.Header.Set(name, "forged")
		}
	})
	header := got.last.Load().Header
	for name, want := range map[string]string{
		"Forwarded": "", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "a.test", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "", "X-Real-Ip": "127.0.0.1", "X-Cutover-Version": "",
	} {
		if header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, header.Get(name), want)
		}
	}
	if id := header.Get("X-Request-Id"); id == "forged" || len(id) != 32 {
		t.Errorf("request id %q", id)
	}
}

func TestATrustedProxyIsBelieved(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, trustLoopback)
	s.get(t, "a.test", "/", func(r *http.Request) {
		r.Header.Set("X-Forwarded-For", "198.51.100.7, 203.0.113.9, 127.0.0.2")
		r.Header.Set("X-Forwarded-Proto", "https")
		r.Header.Set("X-Request-Id", "abc")
	})
	header := got.last.Load().Header
	if header.Get("X-Real-Ip") != "203.0.113.9" || header.Get("X-Forwarded-Proto") != "https" || header.Get("X-Request-Id") != "abc" || header.Get("X-Forwarded-For") != "198.51.100.7, 203.0.113.9, 127.0.0.2, 127.0.0.1" {
		t.Errorf("the target saw %v", header)
	}
}

func TestHopByHopHeadersEndHere(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	s.raw(t, "GET / HTTP/1.1\nHost: a.test\nConnection: close, x-secret, x-forwarded-for\nX-Secret: 1\nProxy-Authorization: x\nKeep-Alive: x\n\n")
	header := got.last.Load().Header
	for _, name := range []string{"X-Secret", "Proxy-Authorization", "Keep-Alive", "Connection"} {
		if header.Get(name) != "" {
			t.Errorf("%s reached the target", name)
		}
	}
	if header.Get("X-Forwarded-For") == "" {
		t.Error("a visitor took X-Forwarded-For away by naming it in Connection")
	}
}

func TestWebSocketsWorkBothWays(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
	s := newSite(t, echo, nil, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, response, err := websocket.Dial(ctx, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body != nil {
		defer func() { _ = response.Body.Close() }()
	}
	for n := range 3 {
		want := fmt.Sprintf("message %d", n)
		if err := c.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	eventually(t, "the line of the tunnel", func() bool { return strings.Contains(s.lines.String(), `"status":101`) })
}

func TestATunnelThatNobodyAskedForIsRefused(t *testing.T) {
	pushy := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "evil")
		w.WriteHeader(http.StatusSwitchingProtocols)
	})
	s := newSite(t, pushy, nil, nil)
	if a := s.get(t, "a.test", "/", nil); a.StatusCode != http.StatusBadGateway {
		t.Errorf("without a request for an upgrade: %d", a.StatusCode)
	}
	if got := s.raw(t, "GET / HTTP/1.1\nHost: a.test\nConnection: Upgrade, close\nUpgrade: websocket\n\n"); !strings.HasPrefix(got, "HTTP/1.1 502") {
		t.Errorf("another protocol than asked for: %.60q", got)
	}
}

func TestAnUpgradeToH2CIsNeverForwarded(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	s.raw(t, "GET / HTTP/1.1\nHost: a.test\nConnection: Upgrade, HTTP2-Settings, close\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\n\n")
	if header := got.last.Load().Header; header.Get("Upgrade") != "" || header.Get("Http2-Settings") != "" {
		t.Errorf("the target saw %v", header)
	}
}

func TestEventsArriveWhileTheAnswerGoesOn(t *testing.T) {
	more := make(chan struct{})
	events := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, "id: 2\n\n")
	})
	s := newSite(t, events, nil, nil)
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	response, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	line, err := bufio.NewReader(response.Body).ReadString('\n')
	close(more)
	if err != nil || line != "id: 1\n" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestTrailersGoBothWays(t *testing.T) {
	var came string
	trailing := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		came = r.Trailer.Get("X-Sum")
		w.Header().Set("Trailer", "X-Back")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Back", "there")
	})
	s := newSite(t, trailing, nil, nil)
	got := s.raw(t, "POST / HTTP/1.1\nHost: a.test\nConnection: close\nTE: trailers\nTrailer: X-Sum\nTransfer-Encoding: chunked\n\n4\nbody\n0\nX-Sum: 42\n\n")
	if came != "42" {
		t.Errorf("the target saw the trailer %q", came)
	}
	if !strings.Contains(got, "\r\nX-Back: there\r\n") {
		t.Errorf("the visitor saw %q", got)
	}
}

func TestTheTargetDecidesWhetherItWantsTheBody(t *testing.T) {
	refusing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusExpectationFailed) })
	s := newSite(t, refusing, nil, nil)
	if got := s.raw(t, "POST / HTTP/1.1\nHost: a.test\nConnection: close\nExpect: 100-continue\nContent-Length: 5\n\n"); !strings.HasPrefix(got, "HTTP/1.1 417") {
		t.Errorf("got %.60q", got)
	}
	reading := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	s = newSite(t, reading, nil, nil)
	if got := s.raw(t, "POST / HTTP/1.1\nHost: a.test\nConnection: close\nExpect: 100-continue\nContent-Length: 5\n\nhello"); !strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n") || !strings.HasSuffix(got, "hello") {
		t.Errorf("got %q", got)
	}
}

func TestLargeBodiesStreamBothWaysUnharmed(t *testing.T) {
	const size = 64 << 20
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	s := newSite(t, echo, nil, nil)
	pattern := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	sent := sha256.New()
	reader, writer := io.Pipe()
	go func() {
		for n := 0; n < size; n += len(pattern) {
			if _, err := io.MultiWriter(sent, writer).Write(pattern); err != nil {
				return
			}
		}
		_ = writer.Close()
	}()
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, reader)
	request.ContentLength = size
	response, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	got := sha256.New()
	if n, err := io.Copy(got, response.Body); err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Error("the bytes changed on their way")
	}
}

func TestAnAnswerThatBreaksOffDoesNotLookWhole(t *testing.T) {
	broken := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = io.WriteString(w, strings.Repeat("half", 50_000))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	s := newSite(t, broken, nil, nil)
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	response, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("half an answer looks whole")
	}
	eventually(t, "the line that says so", func() bool { return strings.Contains(s.lines.String(), "broke off") })
}

func TestTheTargetsAlternativePortsAreNotOurs(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Alt-Svc", `h3=":443"`) }), nil, nil)
	if a := s.get(t, "a.test", "/", nil); a.Header.Get("Alt-Svc") != "" {
		t.Error("Alt-Svc reached the visitor")
	}
}
