package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cutover/proxy/frontend"
)

// wiretap is a target that keeps every byte it receives, and answers each request as a strict reader finds it.
type wiretap struct {
	net.Listener
	mu       sync.Mutex
	received []string // of each connection
	serving  sync.WaitGroup
}

func newWiretap(t *testing.T) *wiretap {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{Listener: listener}
	w.serving.Go(w.accept)
	t.Cleanup(func() { _ = listener.Close(); w.serving.Wait() })
	return w
}

func (w *wiretap) accept() {
	for {
		c, err := w.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		w.received = append(w.received, "")
		number := len(w.received) - 1
		w.mu.Unlock()
		w.serving.Go(func() { w.serve(c, number) })
	}
}

func (w *wiretap) serve(c net.Conn, number int) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(io.TeeReader(c, tap{w, number}))
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

type tap struct {
	*wiretap
	number int
}

func (t tap) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.received[t.number] += string(b)
	return len(b), nil
}

// requests returns what came, without the fields that the proxy itself adds, one string a request.
func (w *wiretap) requests(t *testing.T) (list []string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, all := range w.received {
		in := bufio.NewReader(strings.NewReader(all))
		for {
			text, err := nextRequest(in)
			if err != nil {
				break
			}
			list = append(list, text)
		}
	}
	return list
}

// nextRequest reads a request byte for byte: its lines, and its body as its framing says.
func nextRequest(in *bufio.Reader) (string, error) {
	var text strings.Builder
	length, chunked := 0, false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), ": ")
		switch {
		case line == "\r\n" && chunked:
			for !strings.HasSuffix(text.String(), "\r\n0\r\n\r\n") && !strings.HasSuffix(text.String(), "|0\r\n\r\n") {
				line, err := in.ReadString('\n')
				if err != nil {
					return "", err
				}
				if !strings.Contains(text.String(), "|") {
					text.WriteString("|")
				}
				text.WriteString(line)
			}
			return strings.ReplaceAll(text.String(), "\r\n", "\n"), nil
		case line == "\r\n":
			body := make([]byte, length)
			_, err := io.ReadFull(in, body)
			return strings.ReplaceAll(text.String(), "\r\n", "\n") + "|" + string(body), err
		case strings.HasPrefix(name, "X-Forwarded-"), slices.Contains([]string{"X-Real-Ip", "X-Request-Id", "Cdn-Loop", "User-Agent", "Accept-Encoding"}, name):
			continue
		case name == "Content-Length":
			for _, digit := range value {
				length = length*10 + int(digit-'0')
			}
		case name == "Transfer-Encoding":
			chunked = true
		}
		text.WriteString(line)
	}
}

// front serves the handler as the daemon does.
func front(t *testing.T, s *site) (address string) {
	t.Helper()
	server := frontend.New(frontend.Options{Handler: s.handler, BodyGrace: time.Second, ReadHeaderTimeout: 2 * time.Second, IdleTimeout: 300 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			server.Plain().ServeConn(c)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		accepting.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// statuses returns the status of each answer in what a connection gave.
func statuses(answers string) (list []string) {
	in := bufio.NewReader(strings.NewReader(answers))
	for {
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			return list
		}
		list = append(list, answer.Status[:3])
		_, _ = io.Copy(io.Discard, answer.Body)
	}
}

// vector is what a client sends, what it is answered, and what the target gets. In all of it a line ends in \n, which
// stands for CRLF but in raw ones.
type vector struct {
	name, why string
	send      string
	raw       bool
	want      []string // statuses
	got       []string // requests, without what the proxy adds; "|" stands before the body
}

// evil is what a smuggler would have served as a request of its own.
const evil = "GET /evil HTTP/1.1\nHost: a.test\n\n"

// What a client begins a POST with, and what the target gets of the usual ones.
const (
	post        = "POST / HTTP/1.1\nHost: a.test\n"
	chunkedPost = post + "Transfer-Encoding: chunked\n|5\nhello\n0\n\n"
	lengthPost  = post + "Content-Length: 5\n|hello"
	get         = "GET / HTTP/1.1\nHost: a.test\n|"
)

func vectors() []vector {
	return slices.Concat(codings(), lengths(), lines(), targets(), chunks())
}

// codings are about Transfer-Encoding, and both ways of framing at once.
func codings() []vector {
	return []vector{
		{name: "plain: a length", why: "the control: two requests, in their order", send: post + "Content-Length: 5\n\nhello" + "GET / HTTP/1.1\nHost: a.test\n\n", want: []string{"200", "200"}, got: []string{lengthPost, get}},
		{name: "plain: chunks", why: "the control: a chunked body, then another request", send: post + "Transfer-Encoding: chunked\n\n5\nhello\n0\n\n" + "GET / HTTP/1.1\nHost: a.test\n\n", want: []string{"200", "200"}, got: []string{chunkedPost, get}},

		{name: "CL.TE", why: "chunks decide, the target gets no length, and the connection ends: what follows is nobody's request", send: post + "Content-Length: 5\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n" + evil, want: []string{"200"}, got: []string{chunkedPost}},
		{name: "TE.CL", why: "the same, whatever the order of the fields", send: post + "Transfer-Encoding: chunked\nContent-Length: 4\n\n5\nhello\n0\n\n" + evil, want: []string{"200"}, got: []string{chunkedPost}},
		{name: "TE.TE: twice", why: "two codings are refused", send: post + "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n" + evil, want: []string{"501"}},
		{name: "TE.TE: identity, chunked", why: "only chunked alone is a coding here", send: post + "Transfer-Encoding: identity, chunked\n\n0\n\n" + evil, want: []string{"501"}},
		{name: "TE.TE: xchunked", why: "an unknown coding is refused", send: post + "Transfer-Encoding: xchunked\n\n0\n\n" + evil, want: []string{"501"}},
		{name: "TE.TE: chunked with a vertical tab", why: "a control character in a value is refused", send: post + "Transfer-Encoding: \vchunked\n\n0\n\n" + evil, want: []string{"400"}},
		{name: "TE.TE: quoted", why: "an unknown coding is refused", send: post + "Transfer-Encoding: \"chunked\"\n\n0\n\n" + evil, want: []string{"501"}},
		{name: "TE.TE: another case", why: "a coding has no case; the target gets it in lower case", send: post + "tRANSFER-eNCODING: ChUnKeD\n\n5\nhello\n0\n\n", want: []string{"200"}, got: []string{chunkedPost}},
		{name: "TE.TE: space before the colon", why: "no name has a space in it", send: post + "Transfer-Encoding : chunked\n\n0\n\n" + evil, want: []string{"400"}},
		{name: "TE.TE: a tab before the value", why: "blanks around a value mean nothing; the target gets it without", send: post + "Transfer-Encoding:\tchunked\n\n5\nhello\n0\n\n", want: []string{"200"}, got: []string{chunkedPost}},
		{name: "TE.TE: folded", why: "the fold is undone before the field is read, and it is chunked for all", send: post + "Transfer-Encoding:\n chunked\n\n5\nhello\n0\n\n", want: []string{"200"}, got: []string{chunkedPost}},
		{name: "TE.TE: underscore", why: "another field: the request has no body, and the rest is no request", send: post + "Transfer_Encoding: chunked\n\n0\n\n" + evil, want: []string{"200", "400"}, got: []string{"POST / HTTP/1.1\nHost: a.test\nContent-Length: 0\nTransfer_encoding: chunked\n|"}},
		{name: "TE of HTTP/1.0", why: "HTTP/1.0 has no codings: the length decides, the coding is not passed on, and the connection ends", send: "POST / HTTP/1.0\nHost: a.test\nConnection: keep-alive\nTransfer-Encoding: chunked\nContent-Length: 5\n\nhello" + evil, want: []string{"200"}, got: []string{lengthPost}},
		{name: "TE of HTTP/1.0 without a length", why: "there is no body, and the connection ends before what might be one", send: "POST / HTTP/1.0\nHost: a.test\nConnection: keep-alive\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n" + evil, want: []string{"200"}, got: []string{"POST / HTTP/1.1\nHost: a.test\nContent-Length: 0\n|"}},
	}
}

// lengths are about Content-Length.
func lengths() []vector {
	return []vector{
		{name: "CL.0", why: "a GET with a length has that body for both sides", send: "GET / HTTP/1.1\nHost: a.test\nContent-Length: 5\n\nhello", want: []string{"200"}, got: []string{"GET / HTTP/1.1\nHost: a.test\nContent-Length: 5\n|hello"}},
		{name: "CL twice, the same", why: "one is passed on", send: post + "Content-Length: 5\nContent-Length: 5\n\nhello", want: []string{"200"}, got: []string{lengthPost}},
		{name: "CL twice, another", why: "there is no telling which", send: post + "Content-Length: 5\nContent-Length: 6\n\nhello!" + evil, want: []string{"400"}},
		{name: "CL as a list", why: "no number", send: post + "Content-Length: 5, 5\n\nhello" + evil, want: []string{"400"}},
		{name: "CL with a sign", why: "digits alone are a number", send: post + "Content-Length: +5\n\nhello" + evil, want: []string{"400"}},
		{name: "CL below 0", why: "no number", send: post + "Content-Length: -1\n\nhello" + evil, want: []string{"400"}},
		{name: "CL in hex", why: "no number", send: post + "Content-Length: 0x5\n\nhello" + evil, want: []string{"400"}},
		{name: "CL beyond 63 bits", why: "no number that fits", send: post + "Content-Length: 9223372036854775808\n\nhello" + evil, want: []string{"400"}},
		{name: "CL empty", why: "no number", send: post + "Content-Length:\n\nhello" + evil, want: []string{"400"}},
		{name: "CL with space before the colon", why: "no name has a space in it", send: post + "Content-Length : 5\n\nhello" + evil, want: []string{"400"}},
		{name: "CL folded", why: "the fold is undone: 5 for both sides", send: post + "Content-Length:\n 5\n\nhello", want: []string{"200"}, got: []string{lengthPost}},
		{name: "CL by way of Connection", why: "what Connection names is taken away but for the framing, which is made anew", send: post + "Connection: Content-Length\nContent-Length: 5\n\nhello", want: []string{"200"}, got: []string{lengthPost}},
		{name: "TE by way of Connection", why: "the same for chunks", send: post + "Connection: Transfer-Encoding\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n", want: []string{"200"}, got: []string{chunkedPost}},
	}
}

// lines are about the ends of lines and their begins.
func lines() []vector {
	return []vector{
		{name: "bare LF for line ends", why: "a line feed ends a line for us (RFC 9112 §2.2); the target gets CRLF", raw: true, send: "GET / HTTP/1.1\nHost: a.test\nConnection: close\n\n", want: []string{"200"}, got: []string{get}},
		{name: "bare CR in a value", why: "a control character in a value is refused", raw: true, send: "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n", want: []string{"400"}},
		{name: "bare CR for line ends", why: "no line ends by it, so no head ends in its time", raw: true, send: "GET / HTTP/1.1\rHost: a.test\r\r", want: []string{"400"}},
		{name: "NUL in a value", why: "a control character in a value is refused", send: "GET / HTTP/1.1\nHost: a.test\nX: a\x00b\n\n" + evil, want: []string{"400"}},
		{name: "NUL in a name", why: "no name has a control character in it", send: "GET / HTTP/1.1\nHost: a.test\nX\x00Y: b\n\n" + evil, want: []string{"400"}},
		{name: "a folded field", why: "the fold is undone (RFC 9112 §5.2): one line reaches the target", send: "GET / HTTP/1.1\nHost: a.test\nX: a\n b\nConnection: close\n\n", want: []string{"200"}, got: []string{"GET / HTTP/1.1\nHost: a.test\nX: a b\n|"}},
		{name: "a first line that begins with a space", why: "no name begins so", send: "GET / HTTP/1.1\n Host: a.test\n\n" + evil, want: []string{"400"}},
		{name: "a line without a colon", why: "no field", send: "GET / HTTP/1.1\nHost: a.test\nnonsense\n\n" + evil, want: []string{"400"}},
		{name: "a name without letters", why: "no field", send: "GET / HTTP/1.1\nHost: a.test\n: x\n\n" + evil, want: []string{"400"}},
		{name: "space before the request line", why: "no method", send: " GET / HTTP/1.1\nHost: a.test\n\n" + evil, want: []string{"400"}},
		{name: "two spaces in the request line", why: "no version begins with a space", send: "GET  / HTTP/1.1\nHost: a.test\n\n" + evil, want: []string{"400"}},
		{name: "a space in the path", why: "no version", send: "GET /a b HTTP/1.1\nHost: a.test\n\n" + evil, want: []string{"400"}},
		{name: "a tab in the request line", why: "a control character is no part of a URL", send: "GET /\tx HTTP/1.1\nHost: a.test\n\n" + evil, want: []string{"400"}},
		{name: "HTTP/1.2", why: "a later version of 1 is read as 1.1 and passed on as such", send: "GET / HTTP/1.2\nHost: a.test\nConnection: close\n\n", want: []string{"200"}, got: []string{get}},
		{name: "HTTP/2 in clear text", why: "not spoken here", send: "PRI * HTTP/2.0\n\nSM\n\n", want: []string{"505"}},
		{name: "HTTP/0.9", why: "no version, no request", send: "GET /\n\n" + evil, want: []string{"400"}},
	}
}

// targets are about what the request is for.
func targets() []vector {
	return []vector{
		{name: "two hosts", why: "there is no telling which", send: "GET / HTTP/1.1\nHost: a.test\nHost: b.test\n\n" + evil, want: []string{"400"}},
		{name: "no host", why: "HTTP/1.1 needs one", send: "GET / HTTP/1.1\n\n" + evil, want: []string{"400"}},
		{name: "a host with a path", why: "no host", send: "GET / HTTP/1.1\nHost: a.test/evil\n\n", want: []string{"400"}},
		{name: "a host with a user", why: "no host", send: "GET / HTTP/1.1\nHost: user@a.test\nConnection: close\n\n", want: []string{"400"}},
		{name: "absolute form, another Host", why: "the URL's host decides (RFC 9112 §3.2.2), and the target gets that alone", send: "GET http://a.test/x HTTP/1.1\nHost: b.test\nConnection: close\n\n", want: []string{"200"}, got: []string{"GET /x HTTP/1.1\nHost: a.test\n|"}},
		{name: "CONNECT", why: "no tunnels", send: "CONNECT a.test:80 HTTP/1.1\nHost: a.test:80\nConnection: close\n\n", want: []string{"405"}},
	}
}

// chunks are about bodies in chunks.
func chunks() []vector {
	return []vector{
		{name: "a chunk extension", why: "it is read and not passed on", send: post + "Transfer-Encoding: chunked\n\n5;a=b\nhello\n0\n\n", want: []string{"200"}, got: []string{chunkedPost}},
		{name: "a chunk extension with a bare LF", why: "a chunk's line ends in CRLF alone; the target's connection ends in the middle of the body", raw: true, send: "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nhello\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a.test\r\n\r\n", want: []string{"400"}},
		{name: "a chunk size with a bare LF", why: "the same", raw: true, send: "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a.test\r\n\r\n", want: []string{"400"}},
		{name: "a chunk without its end", why: "CRLF must follow the chunk's data", send: post + "Transfer-Encoding: chunked\n\n5\nhelloXX0\n\n" + evil, want: []string{"400"}},
		{name: "a chunk size beyond 64 bits", why: "no number that fits", send: post + "Transfer-Encoding: chunked\n\n10000000000000005\nhello\n0\n\n" + evil, want: []string{"400"}},
		{name: "a chunk size with 0x", why: "no hex digit", send: post + "Transfer-Encoding: chunked\n\n0x5\nhello\n0\n\n" + evil, want: []string{"400"}},
		{name: "a chunk size with a sign", why: "no hex digit", send: post + "Transfer-Encoding: chunked\n\n+5\nhello\n0\n\n" + evil, want: []string{"400"}},
		{name: "a chunk size with blanks after it", why: "blanks are passed over, and the target gets none", send: post + "Transfer-Encoding: chunked\n\n5 \t\nhello\n0\n\n", want: []string{"200"}, got: []string{chunkedPost}},
		{name: "a very long chunk line", why: "4 KiB are the most", send: post + "Transfer-Encoding: chunked\n\n5;" + strings.Repeat("a", 5000) + "\nhello\n0\n\n" + evil, want: []string{"400"}},
		{name: "extensions without end", why: "16 KiB of them beyond the data are the most", send: post + "Transfer-Encoding: chunked\n\n" + strings.Repeat("1;"+strings.Repeat("a", 3000)+"\nx\n", 20) + "0\n\n" + evil, want: []string{"400"}},
		{name: "a trailer that was not announced", why: "it is dropped", send: post + "Transfer-Encoding: chunked\n\n5\nhello\n0\nX-Late: 1\n\n", want: []string{"200"}, got: []string{chunkedPost}},
		{name: "framing in the trailer", why: "a trailer that may not be one ends the request", send: post + "Trailer: Content-Length\nTransfer-Encoding: chunked\n\n5\nhello\n0\nContent-Length: 9\n\n" + evil, want: []string{"400"}},
	}
}

// tapped returns the address of a proxy, and its target.
func tapped(t *testing.T) (address string, target *wiretap) {
	t.Helper()
	target = newWiretap(t)
	s := newSite(t, says(""), nil, func(s *site) { s.rows.Upstreams[0].Targets[0].URL = "http://" + target.Addr().String() })
	return front(t, s), target
}

func TestRequestsThatCouldBeReadInTwoWaysAreRefusedOrReachTheTargetInOne(t *testing.T) {
	for _, v := range vectors() {
		t.Run(v.name, func(t *testing.T) {
			address, target := tapped(t)
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			text := v.send
			if !v.raw {
				text = strings.ReplaceAll(text, "\n", "\r\n")
			}
			if _, err := io.WriteString(c, text); err != nil {
				t.Fatal(err)
			}
			answers, _ := io.ReadAll(c) // a reset is an end, too
			if got := statuses(string(answers)); !slices.Equal(got, v.want) {
				t.Errorf("answered %v, want %v: %s\n%.300q", got, v.want, v.why, answers)
			}
			if got := target.requests(t); !slices.Equal(got, v.got) {
				t.Errorf("the target got %q, want %q: %s", got, v.got, v.why)
			}
		})
	}
}
