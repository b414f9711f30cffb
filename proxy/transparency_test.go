package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// dial opens a connection to the proxy whose reads and writes end after 10 s.
func (s *site) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
}

// rawTarget is a target that speaks bytes: each connection is given to talk, then closed.
func rawTarget(t *testing.T, talk func(net.Conn, *http.Request)) func(*site) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		talk(c, r)
	}))
	t.Cleanup(server.Close)
	return func(s *site) { s.rows.Upstreams[0].Targets[0].URL = server.URL }
}

func TestPathsThatNeedNoEscapeForTheVisitorGetNone(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	for _, path := range []string{`/a|b{c}"d"^` + "`", "/caf\xc3\xa9", "/%7euser/%41%2f", "/a/../b/./c", "//two", "/?", "/?a=b?c#d"} {
		s.raw(t, "GET "+path+" HTTP/1.1\nHost: a.test\nConnection: close\n\n")
		if r := got.last.Load(); r == nil || r.RequestURI != path {
			t.Errorf("%q arrived as %q", path, r.RequestURI)
		}
	}
}

func TestARequestInAbsoluteFormIsForwardedInOriginForm(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	s.raw(t, "GET http://A.test:80/x|y?q HTTP/1.1\nHost: other.test\nConnection: close\n\n")
	if r := got.last.Load(); r.Host != "A.test:80" || r.RequestURI != "/x|y?q" {
		t.Errorf("the target saw %q and %q", r.Host, r.RequestURI)
	}
	s.raw(t, "GET http://a.test HTTP/1.1\nHost: a.test\nConnection: close\n\n")
	if r := got.last.Load(); r.RequestURI != "/" {
		t.Errorf("the target saw %q", r.RequestURI)
	}
}

func TestRequestLinesThatNoOriginServesAreRefused(t *testing.T) {
	s := newSite(t, says(""), nil, nil)
	for line, want := range map[string]string{
		"http:a.test/x":            "400",
		"ftp://a.test/x":           "400",
		"http://user:pw@a.test/x":  "400",
		"https://a.test/x":         "421",
		"http://a..test/x":         "400",
		"http://a.test:99999999/x": "400",
	} {
		if answer := s.raw(t, "GET "+line+" HTTP/1.1\nHost: a.test\nConnection: close\n\n"); !strings.HasPrefix(answer, "HTTP/1.1 "+want) {
			t.Errorf("%s: %.40q, want %s", line, answer, want)
		}
	}
	if status := s.handler.Upstreams.Status(); len(status) > 0 {
		t.Errorf("one of them was forwarded: %+v", status)
	}
}

func TestNothingIsAddedToWhatTheTargetSays(t *testing.T) {
	bare := rawTarget(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\nX-One: 1\r\nX-One: 2\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>")
	})
	s := newSite(t, says(""), nil, bare)
	a := s.get(t, "a.test", "/", nil)
	a.Header.Del("X-Request-Id")
	if want := "map[Content-Length:[6] Date:[Sat, 01 Jan 2000 00:00:00 GMT] X-One:[1 2]]"; fmt.Sprint(a.Header) != want {
		t.Errorf("the visitor saw %v, want %s", a.Header, want)
	}
}

func TestNothingIsAddedToWhatTheVisitorSays(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	s.raw(t, "GET / HTTP/1.1\nHost: a.test\nConnection: close\nX-One: 1\nX-One: 2\nCookie: a=b\n\n")
	header := got.last.Load().Header
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "X-Request-Id", "Cdn-Loop"} {
		if header.Get(name) == "" {
			t.Errorf("%s is missing", name)
		}
		header.Del(name)
	}
	if want := "map[Cookie:[a=b] X-One:[1 2]]"; fmt.Sprint(header) != want {
		t.Errorf("the target saw %v, want %s", header, want)
	}
}

func TestTheLengthOfAnAnswerToHEADIsKept(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "12345") }), nil, nil)
	if got := s.raw(t, "HEAD / HTTP/1.1\nHost: a.test\nConnection: close\n\n"); !strings.Contains(got, "Content-Length: 12345\r\n") {
		t.Errorf("got %q", got)
	}
}

func TestBodiesStayCompressedAsTheTargetSentThem(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	s.raw(t, "GET / HTTP/1.1\nHost: a.test\nConnection: close\n\n")
	if accept := got.last.Load().Header.Get("Accept-Encoding"); accept != "" {
		t.Errorf("the target is told Accept-Encoding: %q, which the visitor did not say", accept)
	}
}

func TestEarlyHintsReachTheVisitorBeforeTheAnswer(t *testing.T) {
	more := make(chan struct{})
	hinting := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		<-more
		_, _ = io.WriteString(w, "done")
	})
	s := newSite(t, hinting, nil, nil)
	c := s.dial(t)
	write(t, c, "GET / HTTP/1.1\nHost: a.test\nConnection: close\n\n")
	reader := textproto.NewReader(bufio.NewReader(c))
	line, err := reader.ReadLine()
	close(more)
	if err != nil || line != "HTTP/1.1 103 Early Hints" {
		t.Fatalf("%q, %v", line, err)
	}
	if hints, err := reader.ReadMIMEHeader(); err != nil || hints.Get("Link") == "" {
		t.Errorf("%v, %v", hints, err)
	}
	if line, err = reader.ReadLine(); err != nil || line != "HTTP/1.1 200 OK" {
		t.Errorf("%q, %v", line, err)
	}
}

func TestRequestAndAnswerMayGoOnAtTheSameTime(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		_ = controller.EnableFullDuplex()
		line := bufio.NewReader(r.Body)
		for {
			text, err := line.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, text)
			_ = controller.Flush()
		}
	})
	s := newSite(t, echo, nil, nil)
	reader, writer := io.Pipe()
	defer func() { _ = writer.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, reader)
	go func() { _, _ = io.WriteString(writer, "0\n") }()
	response, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	back := bufio.NewReader(response.Body)
	for n := range 5 {
		if text, err := back.ReadString('\n'); err != nil || text != fmt.Sprintln(n) {
			t.Fatalf("line %d: %q, %v", n, text, err)
		}
		go func() { _, _ = fmt.Fprintln(writer, n+1) }()
	}
}

func TestAnEarlyAnswerReachesAVisitorWhoStillUploads(t *testing.T) {
	refusing := rawTarget(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
	})
	s := newSite(t, says(""), nil, refusing)
	c := s.dial(t)
	write(t, c, "POST / HTTP/1.1\nHost: a.test\nContent-Length: 1000000\n\nonly this")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("no answer while the upload rests: %v", err)
	}
	defer func() { _ = response.Body.Close() }()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "big" || response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %q, %v", response.StatusCode, text, err)
	}
}

func TestWhatIsLeftOfAnUploadIsNeverTakenForARequest(t *testing.T) {
	early := rawTarget(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path != "/" {
			t.Errorf("the target was asked for %s", r.URL)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	s := newSite(t, says(""), nil, early)
	for _, rest := range []int{0, 1000, 1_000_000} {
		c := s.dial(t)
		back := bufio.NewReader(c)
		inner := "GET /evil HTTP/1.1\nHost: a.test\n\n"
		write(t, c, fmt.Sprintf("POST / HTTP/1.1\nHost: a.test\nContent-Length: %d\n\nbegin", len("begin")+len(inner)+3+rest)) // 3 CRs
		response, err := http.ReadResponse(back, nil)
		if err != nil || !response.Close {
			t.Fatalf("%d left: %v, %v", rest, response, err)
		}
		_ = response.Body.Close()
		_, _ = io.WriteString(c, strings.ReplaceAll(inner, "\n", "\r\n")+strings.Repeat("x", rest)+"GET /evil HTTP/1.1\r\nHost: a.test\r\n\r\n") // may meet a closed connection
		if all, _ := io.ReadAll(back); len(all) > 0 {
			t.Errorf("%d left: another answer came: %q", rest, all)
		}
	}
}

func TestAConnectionServesManyUploads(t *testing.T) {
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, _ := io.ReadAll(r.Body)
		_, _ = w.Write(all)
	}), nil, nil)
	c := s.dial(t)
	back := bufio.NewReader(c)
	for n := range 50 {
		body := strings.Repeat("x", n*1000+1)
		write(t, c, fmt.Sprintf("POST / HTTP/1.1\nHost: a.test\nContent-Length: %d\n\n%s", len(body), body))
		response, err := http.ReadResponse(back, nil)
		if err != nil {
			t.Fatalf("upload %d: %v", n, err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || string(text) != body {
			t.Fatalf("upload %d: %d bytes, %v", n, len(text), err)
		}
	}
}

func TestARequestWithABodySwitchesToNoOtherProtocol(t *testing.T) {
	var got seen
	s := newSite(t, &got, nil, nil)
	s.raw(t, "POST / HTTP/1.1\nHost: a.test\nConnection: Upgrade, close\nUpgrade: websocket\nContent-Length: 4\n\nbody")
	if header := got.last.Load().Header; header.Get("Upgrade") != "" || header.Get("Connection") != "" {
		t.Errorf("the target saw %v", header)
	}
}

func TestOneDirectionOfATunnelMayEndBeforeTheOther(t *testing.T) {
	ended := make(chan string, 1)
	half := rawTarget(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
		all, _ := io.ReadAll(c)
		ended <- string(all)
		_, _ = io.WriteString(c, "answer")
	})
	s := newSite(t, says(""), nil, half)
	c := s.dial(t)
	write(t, c, "GET / HTTP/1.1\nHost: a.test\nConnection: Upgrade\nUpgrade: raw\n\n")
	back := bufio.NewReader(c)
	if response, err := http.ReadResponse(back, nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", response, err)
	}
	write(t, c, "question")
	_ = c.(*net.TCPConn).CloseWrite()
	if got := <-ended; got != "question" {
		t.Errorf("the target got %q", got)
	}
	if rest, err := io.ReadAll(back); err != nil || string(rest) != "answer" {
		t.Errorf("the visitor got %q, %v", rest, err)
	}
	eventually(t, "the bytes of the tunnel in its line", func() bool { return strings.Contains(s.lines.String(), `"bytes_in":8,"bytes_out":6`) })
}

func TestOfSeveralProtocolsTheFirstThatMayPassIsAskedFor(t *testing.T) {
	for asked, want := range map[string]string{
		"h2c, websocket": "websocket", "websocket, h2c": "websocket", "HTTP/2.0": "", "TLS/1.0": "", "h2c,,": "", "WebSocket": "WebSocket",
	} {
		header := http.Header{"Connection": {"Upgrade"}, "Upgrade": {asked}, "Http2-Settings": {"x"}}
		keepUpgrade(header, false)
		if header.Get("Upgrade") != want || (want == "") != (header.Get("Connection") == "") || header.Get("Http2-Settings") != "" {
			t.Errorf("%q becomes %v", asked, header)
		}
	}
}

func TestAStatusThatHTTPDoesNotKnowIsABadAnswer(t *testing.T) {
	odd := rawTarget(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 042 Odd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	s := newSite(t, says(""), nil, odd)
	if a := s.get(t, "a.test", "/", nil); a.StatusCode != http.StatusBadGateway {
		t.Errorf("got %d", a.StatusCode)
	}
}

// overHTTP2 puts the site on TLS with HTTP/2, for the name example.com.
func overHTTP2(t *testing.T, s *site) *http.Client {
	t.Helper()
	server := httptest.NewUnstartedServer(s.handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = s.Config.ErrorLog
	server.StartTLS()
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, server.Listener.Addr().String())
	}
	transport.TLSClientConfig.ServerName = "example.com"
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestHTTP2VisitorsGetTrailersAndStreamsFromHTTP1Targets(t *testing.T) {
	var proto atomic.Value
	s := newSite(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto + " " + r.Header.Get("X-Forwarded-Proto"))
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-Sum", r.Trailer.Get("X-In"))
	}), nil, nil)
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://example.com/", struct{ io.Reader }{strings.NewReader("body")})
	request.Trailer = http.Header{"X-In": {"42"}}
	response, err := overHTTP2(t, s).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || string(text) != "body" || response.Trailer.Get("X-Sum") != "42" || response.ProtoMajor != 2 {
		t.Errorf("%s %q %v, %v", response.Proto, text, response.Trailer, err)
	}
	if proto.Load() != "HTTP/1.1 https" {
		t.Errorf("the target saw %q", proto.Load())
	}
}

func TestAnotherHostOverTheSameHTTP2ConnectionIsMisdirected(t *testing.T) {
	s := newSite(t, says("v1"), nil, nil)
	client := overHTTP2(t, s)
	for host, want := range map[string]int{"example.com": http.StatusOK, "other.test": http.StatusMisdirectedRequest} {
		request := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: "example.com", Path: "/"}, Host: host}
		response, err := client.Do(request.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %d", host, response.StatusCode)
		}
	}
}

func TestWithoutATLSNameOnlyAddressesAreServed(t *testing.T) {
	s := newSite(t, says("v1"), nil, nil)
	for host, want := range map[string]int{"a.test": http.StatusMisdirectedRequest, "192.0.2.1": http.StatusOK, "[2001:db8::1]:443": http.StatusOK} {
		if w := s.overTLS(t, host, ""); w.Code != want {
			t.Errorf("%s: %d", host, w.Code)
		}
	}
}
