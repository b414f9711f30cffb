package kinds

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"

	"cutover/scripts/e2e/restarts/wire"
)

func TestHTTP(t *testing.T) {
	listener, at := listen(t, "tcp")
	s := newTarget()
	serve(t, listener, s, false).Start()
	carriesAll(t, start(t, "http://"+at), s)
}

func TestHTTPS(t *testing.T) {
	listener, at := listen(t, "tcp")
	s := newTarget()
	server := serve(t, listener, s, false)
	server.StartTLS()
	e := startBeside(t, server, "https://"+at)
	carriesAll(t, e, s)
}

func TestH2(t *testing.T) {
	listener, at := listen(t, "tcp")
	s := newTarget()
	server := serve(t, listener, s, false)
	server.Config.Protocols.SetHTTP2(true)
	server.EnableHTTP2 = true
	server.StartTLS()
	e := startBeside(t, server, "h2://"+at)
	carriesAll(t, e, s)
	speaks(t, e, "HTTP/2.0")
}

func TestH2C(t *testing.T) {
	listener, at := listen(t, "tcp")
	s := newTarget()
	serve(t, listener, s, true).Start()
	e := start(t, "h2c://"+at)
	carriesAll(t, e, s)
	speaks(t, e, "HTTP/2.0")
	t.Run("gRPC", carriesGRPC("tcp", "h2c://"))
}

func TestUnix(t *testing.T) {
	listener, at := listen(t, "unix")
	s := newTarget()
	serve(t, listener, s, false).Start()
	carriesAll(t, start(t, "unix:"+at), s)
}

func TestH2COverUnix(t *testing.T) {
	listener, at := listen(t, "unix")
	s := newTarget()
	serve(t, listener, s, true).Start()
	e := start(t, "h2c+unix:"+at)
	carriesAll(t, e, s)
	speaks(t, e, "HTTP/2.0")
	t.Run("gRPC", carriesGRPC("unix", "h2c+unix:"))
}

// carriesAll is what every kind that speaks HTTP can carry.
func carriesAll(t *testing.T, e *edge, s *target) {
	for _, v := range e.visitors(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Run("requests and answers", v.asks)
			t.Run("bodies that flow both ways, with trailers", v.streams)
			t.Run("event streams, each event at once", func(t *testing.T) { v.getsEvents(t, s) })
			t.Run("interim answers", v.getsHints)
			t.Run("an answer before the request has ended", v.isRefusedEarly)
			t.Run("Expect: 100-continue", v.expects)
		})
	}
	t.Run("WebSocket", e.carriesWebSocket)
	t.Run("HTTP/1.0", e.carriesHTTP10)
}

func speaks(t *testing.T, e *edge, proto string) {
	t.Helper()
	response := e.visitors(t)[0].get(t, "/seen")
	defer response.Body.Close()
	if got := response.Header.Get("X-Proto"); got != proto {
		t.Errorf("the target was asked by %s, want %s", got, proto)
	}
}

func (v *visitor) url(path string) string { return v.scheme + "://" + host + path }

func (v *visitor) get(t *testing.T, path string) *http.Response {
	t.Helper()
	response, err := v.client.Get(v.url(path))
	if err != nil {
		t.Fatal(err)
	}
	if response.ProtoMajor != v.major {
		t.Errorf("the answer came by %s", response.Proto)
	}
	return response
}

func (v *visitor) asks(t *testing.T) {
	response := v.get(t, "/seen?a=%2f&b;c")
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if want := "GET " + host + "/seen?a=%2f&b;c by " + v.scheme; err != nil || string(text) != want {
		t.Errorf("%q, %v; want %q", text, err, want)
	}
}

// streams waits for each part to come back before it sends the next.
func (v *visitor) streams(t *testing.T) {
	reader, writer := io.Pipe()
	defer writer.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, v.url("/echo"), reader)
	if err != nil {
		t.Fatal(err)
	}
	request.Trailer = http.Header{"X-Sent": nil}
	response, err := v.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	sum := sha256.New()
	for n := range 5 {
		part := bytes.Repeat([]byte{'a' + byte(n)}, 1+n*20_000)
		sum.Write(part)
		if _, err := writer.Write(part); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(part))
		if _, err := io.ReadFull(response.Body, got); err != nil || !bytes.Equal(got, part) {
			t.Fatalf("part %d: %v", n, err)
		}
	}
	request.Trailer.Set("X-Sent", "all")
	_ = writer.Close()
	rest, err := io.ReadAll(response.Body)
	if want := hex.EncodeToString(sum.Sum(nil)) + " all"; err != nil || len(rest) > 0 || response.Trailer.Get("X-Sum") != want {
		t.Errorf("%d bytes more, %v; the trailer is %q, want %q", len(rest), err, response.Trailer.Get("X-Sum"), want)
	}
}

// getsEvents lets the target send the next event once the last one has come.
func (v *visitor) getsEvents(t *testing.T, s *target) {
	response := v.get(t, "/events")
	defer response.Body.Close()
	reader := bufio.NewReader(response.Body)
	for n := range 3 {
		line, err := reader.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", n) {
			t.Fatalf("event %d is %q, %v", n, line, err)
		}
		if _, err := reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		s.release <- struct{}{}
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v after the last event", rest, err)
	}
}

func (v *visitor) getsHints(t *testing.T) {
	var hints []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		hints = append(hints, fmt.Sprint(code, " ", header.Get("Link")))
		return nil
	}}
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, v.url("/hints"), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := v.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "hinted" || fmt.Sprint(hints) != "[103 </style.css>; rel=preload]" {
		t.Errorf("%q, %v after %v", text, err, hints)
	}
}

// isRefusedEarly gets the answer while the request's body waits.
func (v *visitor) isRefusedEarly(t *testing.T) {
	reader, writer := io.Pipe()
	defer writer.Close()
	response, err := v.client.Post(v.url("/refuse"), "text/plain", reader)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusRequestEntityTooLarge || string(text) != "too large\n" {
		t.Errorf("%s %q, %v", response.Status, text, err)
	}
}

// expects sends a body only if it is wanted.
func (v *visitor) expects(t *testing.T) {
	for path, want := range map[string]int{"/read": http.StatusOK, "/refuse": http.StatusRequestEntityTooLarge} {
		body := &counted{Reader: strings.NewReader("expected")}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, v.url(path), body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Expect", "100-continue")
		request.ContentLength = int64(len("expected"))
		response, err := v.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != want || want == http.StatusOK && string(text) != "expected<nil>" {
			t.Errorf("%s: %s %q, %v", path, response.Status, text, err)
		}
		if v.major == 1 && want != http.StatusOK && body.read > 0 {
			t.Errorf("%s: %d bytes were sent that nobody wanted", path, body.read)
		}
	}
}

// counted counts what is read.
type counted struct {
	io.Reader
	read int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += n
	return n, err
}

func (e *edge) carriesWebSocket(t *testing.T) {
	conn, reader, err := webSocket(e.plain, "/socket")
	if conn != nil {
		defer conn.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	const text = 0x1
	for _, message := range []struct {
		opcode  byte
		payload string
	}{{text, "hello"}, {wire.Binary, string([]byte{0, 255, 1, 254})}, {wire.Binary, strings.Repeat("x", 4000)}, {wire.Close, "\x03\xe8bye"}} {
		if err := wire.WriteFrame(conn, message.opcode, []byte(message.payload), true); err != nil {
			t.Fatal(err)
		}
		opcode, payload, err := wire.ReadFrame(reader)
		if err != nil || opcode != message.opcode || string(payload) != message.payload {
			t.Fatalf("%d %q, %v; want %d %q", opcode, payload, err, message.opcode, message.payload)
		}
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v after the close", rest, err)
	}
}

// carriesHTTP10 asks as a client does that knows no chunks and keeps no connection. One that names no Host is refused.
func (e *edge) carriesHTTP10(t *testing.T) {
	for head, want := range map[string]string{ // the end of the answer
		"GET /seen HTTP/1.0\r\nHost: " + host + "\r\n\r\n":                            "GET " + host + "/seen by http",
		"GET /seen HTTP/1.0\r\n\r\n":                                                  "400 Bad Request",
		"POST /read HTTP/1.0\r\nHost: " + host + "\r\nContent-Length: 5\r\n\r\nhello": "hello<nil>",
	} {
		conn, err := net.Dial("tcp", e.plain)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, head)
		text, err := io.ReadAll(conn) // until the server closes
		_ = conn.Close()
		answer, body, _ := strings.Cut(string(text), "\r\n\r\n")
		if err != nil || !strings.HasPrefix(answer, "HTTP/1.") || strings.Contains(answer, "chunked") || !strings.HasPrefix(body, want) {
			t.Errorf("%q: %v\n%s", head, err, text)
		}
	}
}
