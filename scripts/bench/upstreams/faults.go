package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fault is a way to answer wrongly.
type fault struct {
	name string
	says string
	// answer answers a request, and reports whether the connection goes on. It may leave the request's body unread if early.
	answer func(ctx context.Context, w *wire, id string, n int) bool
	early  bool
}

// wire is a connection to who asks.
type wire struct {
	*net.TCPConn
}

func (w *wire) say(format string, arguments ...any) bool {
	_, err := fmt.Fprintf(w.TCPConn, format, arguments...)
	return err == nil
}

// reset ends the connection as the kernel does for a process that is gone.
func (w *wire) reset() bool {
	_ = w.SetLinger(0) // it is open
	_ = w.Close()
	return false
}

// slowly writes so many last bytes with a second between them.
func (w *wire) slowly(ctx context.Context, text []byte, last int) bool {
	if last < len(text) {
		if _, err := w.Write(text[:len(text)-last]); err != nil {
			return false
		}
		text = text[len(text)-last:]
	}
	for _, c := range text {
		if !wait(ctx, time.Second) {
			return false
		}
		if _, err := w.Write([]byte{c}); err != nil {
			return false
		}
	}
	return true
}

func head(id string, n int) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\n%s: %s\r\nContent-Length: %d\r\n\r\n", answerTo, id, n)
}

func chunkedHead(id string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\n%s: %s\r\nTransfer-Encoding: chunked\r\n\r\n", answerTo, id)
}

// properly is the right answer.
func (w *wire) properly(id string, n int) bool {
	return w.say("%s%s", head(id, n), bytesOf(id, n))
}

// hang never answers, and holds the connection for as long as it is wanted.
func hang(ctx context.Context, w *wire, _ string, _ int) bool {
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	defer stop()
	_, _ = io.Copy(io.Discard, w.TCPConn) // until somebody closes it
	return false
}

// faults are all that is tried. Each second request to a target meets one. What cannot be told by anybody is left out: an answer
// that nobody has asked for, and that comes when the next request is on its way over the same connection of HTTP/1.1.
func faults() []fault {
	return append(brokenHeads(), brokenBodies()...)
}

func brokenHeads() []fault {
	return []fault{
		{name: "hang", says: "never answers", answer: hang},
		{name: "reset", says: "resets the connection without a word", answer: func(_ context.Context, w *wire, _ string, _ int) bool { return w.reset() }},
		{name: "reset-head", says: "resets it in the middle of the head", answer: func(_ context.Context, w *wire, id string, n int) bool {
			w.say("%s", head(id, n)[:20])
			return w.reset()
		}},
		{name: "early-reset", says: "resets it with the request's body unread", early: true, answer: func(_ context.Context, w *wire, _ string, _ int) bool { return w.reset() }},
		{name: "slow-head", says: "sends a byte of the head a second", answer: func(ctx context.Context, w *wire, id string, n int) bool {
			text := head(id, n)
			return w.slowly(ctx, []byte(text), len(text)) && w.say("%s", bytesOf(id, n))
		}},
		{name: "garbage", says: "answers what is no HTTP", answer: func(_ context.Context, w *wire, id string, _ int) bool {
			w.say("\x16\x03\x01\x00 %s\r\n\r\n", id)
			return false
		}},
		{name: "two-lengths", says: "names two lengths of the body", answer: func(_ context.Context, w *wire, id string, n int) bool {
			w.say("HTTP/1.1 200 OK\r\n%s: %s\r\nContent-Length: %d\r\nContent-Length: 5\r\n\r\n%s", answerTo, id, n, bytesOf(id, n))
			return false
		}},
		{name: "long-head", says: "sends a head of 2 MB", answer: func(_ context.Context, w *wire, id string, n int) bool {
			w.say("HTTP/1.1 200 OK\r\n%s: %s\r\nX-Long: %s\r\nContent-Length: %d\r\n\r\n%s", answerTo, id, strings.Repeat("x", 2<<20), n, bytesOf(id, n))
			return false
		}},
		{name: "interim-flood", says: "sends interim answers without end", answer: func(ctx context.Context, w *wire, id string, _ int) bool {
			stop := context.AfterFunc(ctx, func() { _ = w.Close() })
			defer stop()
			for w.say("HTTP/1.1 103 Early Hints\r\nLink: </%s>; rel=preload\r\n\r\n", id) && wait(ctx, time.Millisecond) {
				continue // until somebody closes it
			}
			return false
		}},
		{name: "foreign-switch", says: "switches to a protocol that nobody asked for", answer: func(_ context.Context, w *wire, id string, n int) bool {
			return w.say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n%s%s", head(id, n), bytesOf(id, n))
		}},
	}
}

func brokenBodies() []fault {
	return []fault{
		{name: "reset-body", says: "resets it in the middle of the body", answer: func(_ context.Context, w *wire, id string, n int) bool {
			w.say("%s%s", head(id, n), bytesOf(id, n)[:n/2])
			return w.reset()
		}},
		{name: "cut-length", says: "closes it before the length that it named", answer: func(_ context.Context, w *wire, id string, n int) bool {
			w.say("%s%s", head(id, n), bytesOf(id, n)[:n/2])
			return false
		}},
		{name: "cut-chunked", says: "closes it before the last chunk", answer: func(_ context.Context, w *wire, id string, n int) bool {
			w.say("%s%x\r\n%s\r\n", chunkedHead(id), n/2, bytesOf(id, n)[:n/2])
			return false
		}},
		{name: "bad-chunk", says: "names a length of a chunk that is none", answer: func(_ context.Context, w *wire, id string, n int) bool {
			w.say("%s%x\r\n%s\r\nnone\r\n%s", chunkedHead(id), n/2, bytesOf(id, n)[:n/2], bytesOf(id, n)[n/2:])
			return false
		}},
		{name: "slow-body", says: "sends the last three bytes a second apart", answer: func(ctx context.Context, w *wire, id string, n int) bool {
			return w.slowly(ctx, append([]byte(head(id, n)), bytesOf(id, n)...), 3)
		}},
		{name: "two-answers", says: "answers once more, in the same packet", answer: func(_ context.Context, w *wire, id string, n int) bool {
			return w.say("%s%sHTTP/1.1 200 OK\r\n%s: poison\r\nContent-Length: 6\r\n\r\npoison", head(id, n), bytesOf(id, n), answerTo)
		}},
		{name: "closes", says: "closes the connection that it promised to keep", answer: func(_ context.Context, w *wire, id string, n int) bool {
			w.say("%s%s", head(id, n), bytesOf(id, n))
			return false
		}},
		{name: "early-answer", says: "answers with the request's body unread, and closes", early: true, answer: func(_ context.Context, w *wire, id string, n int) bool {
			w.say("%s%s", head(id, n), bytesOf(id, n))
			return false
		}},
	}
}

// faultyTarget answers each second request wrongly, on connections that it holds until who asks closes them, or ctx ends.
type faultyTarget struct {
	fault    fault
	listener net.Listener
	asked    atomic.Int64
	running  sync.WaitGroup
}

func newFaultyTarget(ctx context.Context, f fault) (*faultyTarget, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	return &faultyTarget{fault: f, listener: listener}, err
}

func (t *faultyTarget) address() string { return t.listener.Addr().String() }

// run accepts until ctx ends.
func (t *faultyTarget) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { _ = t.listener.Close() })
	defer stop()
	defer t.running.Wait()
	for {
		conn, err := t.listener.Accept()
		if err != nil {
			return // closed
		}
		t.running.Go(func() { t.serve(ctx, &wire{conn.(*net.TCPConn)}) })
	}
}

func (t *faultyTarget) serve(ctx context.Context, w *wire) {
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	defer stop()
	defer func() { _ = w.Close() }() // it may be closed
	reader := bufio.NewReader(w)
	for {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return // who asked has closed it
		}
		id, n := wish(r)
		fails := t.asked.Add(1)%2 == 0
		if !fails || !t.fault.early {
			if !t.receives(w, r, id) {
				return
			}
		}
		if !fails {
			if !w.properly(id, n) {
				return
			}
			continue
		}
		if !t.fault.answer(ctx, w, id, n) {
			return
		}
	}
}

// receives reads a request's body. One that is another request's is told to who asked.
func (t *faultyTarget) receives(w *wire, r *http.Request, id string) bool {
	got, err := io.ReadAll(r.Body)
	if err != nil {
		return false
	}
	if r.Method == http.MethodPost && !bytes.Equal(got, bytesOf(id, sentBytes)) {
		w.say("HTTP/1.1 409 Conflict\r\nContent-Length: %s\r\n\r\n%s", strconv.Itoa(len("mixed up")), "mixed up")
		return false
	}
	return true
}
