package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cutover/proxy/frontend"
	"cutover/proxy/websocket"
)

// leaving is a site behind a real frontend, which can drain.
type leaving struct {
	*site
	frontend      *frontend.Server
	plain, secure net.Listener
	config        *tls.Config
}

// newLeaving puts it before a target, which change may replace.
func newLeaving(t *testing.T, target http.Handler, change func(*site)) *leaving {
	t.Helper()
	l := &leaving{site: newSite(t, target, nil, change)}
	l.handler.Ending = frontend.Ending
	borrowed := httptest.NewTLSServer(target)
	l.config = &tls.Config{Certificates: borrowed.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	borrowed.Close()
	l.frontend = frontend.New(frontend.Options{Handler: l.handler, IdleGrace: 50 * time.Millisecond, GoAwayDelay: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.frontend.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	l.plain = accept(t, &running, l.frontend.Plain().ServeConn)
	l.secure = accept(t, &running, l.handshake)
	t.Cleanup(func() {
		_, _ = l.plain.Close(), l.secure.Close()
		cancel()
		running.Wait()
	})
	return l
}

func accept(t *testing.T, running *sync.WaitGroup, serve func(net.Conn)) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { serve(c) })
		}
	})
	return listener
}

func (l *leaving) handshake(c net.Conn) {
	secure := tls.Server(c, l.config)
	if err := secure.Handshake(); err != nil {
		_ = c.Close()
		return
	}
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		l.frontend.HTTP2().ServeConn(secure)
		return
	}
	l.frontend.HTTP1().ServeConn(secure)
}

// drain begins a drain in which tunnels and streams are asked to end after 150 to 200 ms.
func (l *leaving) drain(t *testing.T) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	go func() { result <- l.frontend.Drain(ctx, frontend.Grace{Tunnels: 200 * time.Millisecond}) }()
	return result
}

func (l *leaving) dial(t *testing.T, secure bool) net.Conn {
	t.Helper()
	address := l.plain.Addr().String()
	if secure {
		address = l.secure.Addr().String()
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if secure {
		return tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "example.com", NextProtos: []string{"http/1.1"}})
	}
	return c
}

// upgrade switches a fresh connection to a protocol.
func (l *leaving) upgrade(t *testing.T, secure bool, protocol string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := l.dial(t, secure)
	write(t, c, "GET / HTTP/1.1\nHost: example.com\nConnection: Upgrade\nUpgrade: "+protocol+"\n\n")
	back := bufio.NewReader(c)
	if response, err := http.ReadResponse(back, nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, %v", response, err)
	}
	return c, back
}

// message is a frame of a WebSocket, read.
type message struct {
	op      byte
	masked  bool
	payload []byte
}

// code returns what a Close frame says; 0 for another.
func (m message) code() uint16 {
	if m.op != 8 || len(m.payload) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(m.payload)
}

func readFrame(r io.Reader) (message, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return message{}, err
	}
	m := message{op: head[0] & 15, masked: head[1]&0x80 != 0}
	size := uint64(head[1] & 0x7f)
	if extra := map[uint64]int{126: 2, 127: 8}[size]; extra > 0 {
		var length [8]byte
		if _, err := io.ReadFull(r, length[8-extra:]); err != nil {
			return m, err
		}
		size = binary.BigEndian.Uint64(length[:])
	}
	var mask [4]byte
	if m.masked {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return m, err
		}
	}
	m.payload = make([]byte, size)
	_, err := io.ReadFull(r, m.payload)
	for i := range m.payload {
		m.payload[i] ^= mask[i%4]
	}
	return m, err
}

func frameOf(m message) []byte {
	mask := byte(0)
	if m.masked {
		mask = 0x80
	}
	b := []byte{0x80 | m.op}
	if len(m.payload) < 126 {
		b = append(b, mask|byte(len(m.payload)))
	} else {
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(len(m.payload)))
	}
	if m.masked {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, m.payload...)
}

// numbered returns message n of a sequence; their lengths vary.
func numbered(n int, masked bool) message {
	return message{1, masked, append(binary.BigEndian.AppendUint64(nil, uint64(n)), bytes.Repeat([]byte{8}, n*977%70000)...)}
}

func (m message) number() int { return int(binary.BigEndian.Uint64(m.payload)) }

// echoes is a target that echoes the messages of a WebSocket in pieces.
type echoes struct {
	count atomic.Int64
	err   atomic.Value  // a message that was not the next
	last  chan message  // the Close frame
	end   chan struct{} // closed when the connection is
}

func (e *echoes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, back, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer close(e.end)
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
	for {
		m, err := readFrame(back)
		if err != nil {
			return
		}
		if m.op == 8 {
			e.last <- m
			_, _ = c.Write(frameOf(message{8, false, m.payload}))
			return
		}
		if n := e.count.Add(1) - 1; m.number() != int(n) || !m.masked {
			e.err.Store(fmt.Errorf("message %d came as number %d, masked %t", m.number(), n, m.masked))
		}
		b := frameOf(message{1, false, m.payload})
		for _, piece := range [][]byte{b[:1], b[1 : len(b)/2], b[len(b)/2:]} {
			if _, err := c.Write(piece); err != nil {
				break // it reads on
			}
		}
	}
}

func newEchoes() *echoes { return &echoes{last: make(chan message, 1), end: make(chan struct{})} }

func TestNoMessageOfAWebSocketIsLostOrTornBeforeItsClose(t *testing.T) {
	for _, secure := range []bool{false, true} {
		target := newEchoes()
		l := newLeaving(t, target, nil)
		c, back := l.upgrade(t, secure, "WebSocket")
		var stop atomic.Bool
		sent := make(chan int, 1)
		go func() {
			n := 0
			for ; !stop.Load(); n++ {
				if _, err := c.Write(frameOf(numbered(n, true))); err != nil {
					break
				}
			}
			sent <- n
		}()
		result := l.drain(t)
		echoed := 0
		m, err := readFrame(back)
		for ; err == nil && m.op != 8; m, err = readFrame(back) {
			if want := numbered(echoed, false); !bytes.Equal(m.payload, want.payload) {
				t.Fatalf("echo %d is torn or another's: %d bytes of number %d", echoed, len(m.payload), m.number())
			}
			echoed++
		}
		if err != nil || m.code() != websocket.ServiceRestart || m.masked {
			t.Errorf("secure %t: after %d echoes came %+v, %v; want Close 1012", secure, echoed, m, err)
		}
		stop.Store(true)
		total := <-sent
		_, _ = c.Write(frameOf(message{8, true, m.payload}))
		if rest, err := io.ReadAll(back); err != nil || len(rest) > 0 {
			t.Errorf("secure %t: after the Close came %d bytes, %v", secure, len(rest), err)
		}
		if bye := <-target.last; bye.code() != websocket.GoingAway || !bye.masked {
			t.Errorf("the target got %+v, want Close 1001, masked", bye)
		}
		if got := int(target.count.Load()); got != total || echoed == 0 || target.err.Load() != nil {
			t.Errorf("the target got %d of %d messages, %d came back; %v", got, total, echoed, target.err.Load())
		}
		if err := <-result; err != nil {
			t.Errorf("Drain: %v", err)
		}
	}
}

func TestAVisitorWhoDoesNotAnswerAClosedWebSocketIsLeftAfterAMoment(t *testing.T) {
	target := newEchoes()
	l := newLeaving(t, target, nil)
	_, back := l.upgrade(t, false, "websocket")
	began := time.Now()
	result := l.drain(t)
	if m, err := readFrame(back); err != nil || m.code() != websocket.ServiceRestart {
		t.Errorf("%+v, %v", m, err)
	}
	if bye := <-target.last; bye.code() != websocket.GoingAway {
		t.Errorf("the target got %+v", bye)
	}
	if rest, err := io.ReadAll(back); err != nil || len(rest) > 0 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if err := <-result; err != nil || time.Since(began) > 4*time.Second {
		t.Errorf("Drain: %v after %v", err, time.Since(began))
	}
}

func TestATargetThatDoesNotReadDoesNotKeepTheCloseFromTheVisitor(t *testing.T) {
	leave := make(chan struct{})
	defer close(leave)
	deaf := rawTarget(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		<-leave
	})
	l := newLeaving(t, says(""), deaf)
	c, back := l.upgrade(t, false, "websocket")
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		for {
			if _, err := c.Write(frameOf(numbered(50, true))); err != nil {
				return
			}
		}
	})
	result := l.drain(t)
	if m, err := readFrame(back); err != nil || m.code() != websocket.ServiceRestart {
		t.Errorf("%+v, %v", m, err)
	}
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestAFrameThatDoesNotEndIsNotFollowedByAClose(t *testing.T) {
	half := rawTarget(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05Hel")
		_, _ = io.Copy(io.Discard, c)
	})
	l := newLeaving(t, says(""), half)
	_, back := l.upgrade(t, false, "websocket")
	result := l.drain(t)
	if all, err := io.ReadAll(back); err != nil || string(all) != "\x81\x05Hel" {
		t.Errorf("%q, %v", all, err)
	}
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestATunnelOfAnUnknownProtocolEndsWithAFINAndThenAltogether(t *testing.T) {
	for _, secure := range []bool{false, true} {
		ended := make(chan string, 1)
		target := rawTarget(t, func(c net.Conn, _ *http.Request) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nhello")
			all, _ := io.ReadAll(c)
			ended <- string(all)
		})
		l := newLeaving(t, says(""), target)
		c, back := l.upgrade(t, secure, "raw")
		result := l.drain(t)
		if all, err := io.ReadAll(back); err != nil || string(all) != "hello" {
			t.Errorf("%q, %v", all, err)
		}
		if _, err := io.WriteString(c, "last words"); err != nil {
			t.Error(err)
		}
		_ = c.Close()
		if got := <-ended; got != "last words" {
			t.Errorf("the target got %q", got)
		}
		if err := <-result; err != nil {
			t.Errorf("Drain: %v", err)
		}
	}
}

// ticker is a target whose event stream comes in pieces, without a pause or, with ?quiet, after one event not at all; with
// ?half it stops in the middle of one.
func ticker(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := func(text string) {
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
	}
	for n := 0; r.Context().Err() == nil; n++ {
		flush(fmt.Sprintf("id: %d\n", n))
		flush("data: some ")
		if r.URL.RawQuery == "half" {
			<-r.Context().Done()
		}
		flush("text\r\n\r")
		flush("\n")
		if r.URL.RawQuery == "quiet" {
			<-r.Context().Done()
		}
	}
}

// visit asks for an event stream in one of three ways and reads it to its end.
func (l *leaving) visit(t *testing.T, way, query string, begun chan<- struct{}) (string, error) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(way != "HTTP/2")
	protocols.SetHTTP2(way == "HTTP/2")
	transport := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"}}
	defer transport.CloseIdleConnections()
	url := "https://" + l.secure.Addr().String() + "/?" + query
	if way == "clear text" {
		url = "http://" + l.plain.Addr().String() + "/?" + query
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Host = "example.com"
	response, err := transport.RoundTrip(request)
	close(begun)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	all, err := io.ReadAll(response.Body)
	return string(all), err
}

func TestAnEventStreamEndsAfterAWholeEvent(t *testing.T) {
	for _, way := range []string{"clear text", "TLS", "HTTP/2"} {
		for _, query := range []string{"", "quiet"} {
			t.Run(way+" "+query, func(t *testing.T) {
				l := newLeaving(t, http.HandlerFunc(ticker), nil)
				begun, ended := make(chan struct{}), make(chan error, 1)
				var all string
				go func() {
					var err error
					all, err = l.visit(t, way, query, begun)
					ended <- err
				}()
				<-begun
				if err := <-l.drain(t); err != nil {
					t.Errorf("Drain: %v", err)
				}
				if err := <-ended; err != nil {
					t.Errorf("the stream broke off: %v", err)
				}
				events := strings.SplitAfter(all, "\r\n\r\n")
				if events[0] == "" || events[len(events)-1] != "" {
					t.Errorf("the last event is torn: %q", events[len(events)-1])
				}
				for n, event := range events[:len(events)-1] {
					if want := fmt.Sprintf("id: %d\ndata: some text\r\n\r\n", n); event != want {
						t.Fatalf("event %d is %q", n, event)
					}
				}
				eventually(t, "an access line", func() bool { return strings.Contains(l.lines.String(), `"status":200`) })
				if status := l.handler.Upstreams.Status(); status[0].Targets[0].Failures != 0 {
					t.Errorf("it counts as the target's failure: %+v", status)
				}
			})
		}
	}
}

func TestHalfAnEventDoesNotHoldTheEndUp(t *testing.T) {
	l := newLeaving(t, http.HandlerFunc(ticker), nil)
	begun := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		<-begun
		result <- <-l.drain(t)
	}()
	if all, err := l.visit(t, "clear text", "half", begun); err != nil || all != "id: 0\ndata: some " {
		t.Errorf("%q, %v; it must end cleanly, and the browser drops it", all, err)
	}
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func FuzzTheEndsOfEventsDoNotDependOnHowTheBytesAreSplit(f *testing.F) {
	f.Add("data: x\r\n\r\ndata: y\n\n", uint8(1))
	f.Add(": ping\r\r\r\n", uint8(3))
	f.Fuzz(func(t *testing.T, stream string, size uint8) {
		whole, split := newEventPosition(), newEventPosition()
		want, got := whole.follow([]byte(stream)), 0
		for at := 0; at < len(stream); at += int(size) + 1 {
			if n := split.follow([]byte(stream[at:min(len(stream), at+int(size)+1)])); n > 0 {
				got = at + n
			}
		}
		if got != want || split != whole {
			t.Errorf("%q: %d, in pieces of %d: %d", stream, want, int(size)+1, got)
		}
	})
}

func TestAnEventEndsWithAnEmptyLine(t *testing.T) {
	for stream, want := range map[string]int{
		"": 0, "data": 0, "data\n": 0, "data\n\n": 6, "data\r\r": 6, "data\r\n": 0, "data\r\n\r": 0, "data\r\n\r\n": 8,
		"data\n\r\n": 7, "a\n\nb\n": 3, "a\n\n\n\nb": 5, "\n": 1,
	} {
		if p := newEventPosition(); p.follow([]byte(stream)) != want {
			t.Errorf("%q: not %d", stream, want)
		}
	}
}
