package fastcgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is one request and its answer.
type exchange struct {
	t      *Transport
	r      *http.Request
	where  place
	length int64 // of the body, -1 for none

	c          *connection
	kept       bool        // c was kept from an earlier request
	stale      bool        // c was dead, and the application acted upon nothing
	beginning  int         // bytes of the request before its body
	stop       func() bool // ends the watch over the request's context
	upload     *upload     // nil if the body is sent at once, or there is none
	bodyClosed bool
	answer     answer
	ended      atomic.Bool // finish was called for c

	mu     sync.Mutex // between upload and answer, for what is below
	headed bool       // the answer's header has come
	last   bool       // the last record of the body is being sent, or was
	sent   bool       // the body was sent whole
	over   bool       // nothing more of the body is sent
	handed bool       // the answer is over, and upload ends the exchange
}

// run does the exchange up to the answer's header. After an error the connection is gone.
func (x *exchange) run(fresh bool) (*http.Response, error) {
	dead := x.c
	x.stale = false
	x.ended.Store(false)
	if err := x.connect(fresh); err != nil {
		return nil, err
	}
	if fresh {
		x.c.out = dead.out // the same request, since its body may have been read
	} else if refused, err := x.compose(); refused != nil || err != nil {
		_ = x.c.Close() // nothing was sent
		return refused, err
	} else if err := x.renew(); err != nil {
		return nil, err
	}
	c := x.c
	x.stop = context.AfterFunc(x.r.Context(), func() { _ = c.Close() }) // whoever waits for the connection reports it
	err := x.send()
	if err == nil {
		var response *http.Response
		if response, err = x.receive(); err == nil {
			return response, nil
		}
	}
	x.finish(false)
	return nil, x.explain(err)
}

// renew replaces a kept connection that has become too old while the body was read.
func (x *exchange) renew() error {
	if !x.kept || x.length <= 0 || time.Since(x.c.since) < idleUnrepeatable {
		return nil
	}
	_ = x.c.Close() // it is given up
	out := x.c.out
	err := x.connect(true)
	if err == nil {
		x.c.out = out
	}
	return err
}

// compose writes the request, with as little of a body as needs no goroutine, where the connection has room for it.
func (x *exchange) compose() (refused *http.Response, err error) {
	request, ok := x.t.appendRequest(x.c.out[:0], x.r, x.where, x.length)
	x.c.out = request
	if !ok {
		return refuse(x.r, http.StatusRequestHeaderFieldsTooLarge, "A header field of the request is too long."), nil
	}
	x.beginning = len(request)
	if x.length > atOnce {
		return nil, nil
	}
	if x.length > 0 {
		if request, err = appendBody(request, x.r.Body, int(x.length)); err != nil {
			return nil, err
		}
		x.closeBody() // else who watches whether it is taken would take the wait for the answer for a standstill
	}
	x.c.out = appendHeader(request, typeStdin, 0)
	return nil, nil
}

// closeBody is for when nothing more of the body is needed, unless that is for upload to say.
func (x *exchange) closeBody() {
	if x.upload == nil && !x.bodyClosed {
		x.bodyClosed = true
		closeBody(x.r)
	}
}

// atOnce is how much of a body is sent together with what comes before, without a look at what the application says to it. Every
// socket has room for as much, so that it cannot be that both sides wait until the other reads.
const atOnce = 16 << 10

// appendBody appends a record with a body of a length.
func appendBody(out []byte, body io.Reader, length int) ([]byte, error) {
	out = appendHeader(out, typeStdin, length)
	begin := len(out)
	out = slices.Grow(out, length+headerLength)[:begin+length]
	switch n, err := fill(body, out[begin:]); {
	case n == length:
		return out, nil
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: %w", errShortBody, io.ErrUnexpectedEOF)
	default:
		return nil, err
	}
}

// isRepeatable reports whether a request may be sent again that a dying connection has swallowed (RFC 9110 §9.2.2).
func isRepeatable(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody {
		return false
	}
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// unknown is the length of a body that does not say one.
const unknown = -2

var errNoLength = errors.New("fastcgi: the length of the request's body is not known")

// bodyLength returns how long a request's body is, -1 if there is none and need not be one.
func bodyLength(r *http.Request) int64 {
	switch {
	case r.Body != nil && r.Body != http.NoBody && r.ContentLength <= 0:
		return unknown
	case r.Body != nil && r.Body != http.NoBody:
		return r.ContentLength
	case isRepeatable(r):
		return -1
	}
	return 0
}

// send sends what was composed, and lets more of a body follow on its own.
func (x *exchange) send() error {
	if x.t.config.ResponseTimeout > 0 {
		_ = x.c.SetDeadline(time.Now().Add(x.t.config.ResponseTimeout)) // if the connection is closed, Write says so
	}
	if n, err := x.c.Write(x.c.out); err != nil {
		x.stale = x.kept && n < x.beginning && !isTimeout(err) // no application acts upon half of a beginning
		return err
	}
	if x.length > atOnce {
		_ = x.c.SetReadDeadline(time.Time{}) // until the body is sent
		x.upload = &upload{x: x, c: x.c, from: x.r.Body, left: x.length}
		go x.upload.run() // ends with the connection, or with the read from the body that is under way
	}
	return nil
}

// uploaded is for when nothing more of the body is sent: it is the application's turn, or the end.
func (x *exchange) uploaded(whole bool) {
	x.mu.Lock()
	x.sent, x.over = whole, true
	handed := x.handed
	if timeout := x.t.config.ResponseTimeout; timeout > 0 && !x.headed {
		_ = x.c.SetReadDeadline(time.Now().Add(timeout)) // if the connection is closed, Read says so
	}
	x.mu.Unlock()
	if handed {
		x.settle()
	}
}

// lastRecord is for when the last record of the body is about to be sent.
func (x *exchange) lastRecord() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last = true
}

// receive reads the answer's header.
func (x *exchange) receive() (*http.Response, error) {
	x.answer = answer{in: x.c.in, lines: &lines{}}
	if report := x.t.config.Stderr; report != nil {
		x.answer.lines.report = func(line string) { report(x.r.Context(), line) }
	}
	whole, length, rest, err := readHead(&x.answer, x.c.head, x.t.config.MaxHeaderBytes)
	x.c.head = whole
	if err != nil {
		x.stale = x.kept && !x.answer.began && isRepeatable(x.r) && !isTimeout(err)
		return nil, err
	}
	response, err := parseHead(string(whole[:length]))
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	x.headed = true
	if x.t.config.ResponseTimeout > 0 {
		_ = x.c.SetReadDeadline(time.Time{}) // if the connection is closed, Read says so
	}
	x.mu.Unlock()
	if n, ok := x.answer.remaining(); ok && response.ContentLength < 0 && x.r.Method != http.MethodHead && response.StatusCode != http.StatusNotModified {
		// Who knows the length need not send chunks, nor flush them.
		response.ContentLength = int64(len(rest) + n)
		response.Header.Set("Content-Length", strconv.Itoa(len(rest)+n))
	}
	response.Request = x.r
	response.Body = newBody(x, response, rest)
	return response, nil
}

// finish ends the exchange. The connection is kept only if both sides have said all that they had to say, and no more.
func (x *exchange) finish(whole bool) {
	if !x.ended.CompareAndSwap(false, true) {
		return
	}
	untouched := x.stop()
	if whole && untouched && x.t.config.MaxIdle == 0 && x.upload == nil {
		x.t.release(x.c)
		return
	}
	if !whole || !untouched || x.t.config.MaxIdle == 0 || x.c.in.Buffered() > 0 {
		_ = x.c.Close() // of no use any more
		return
	}
	if !x.handOver() {
		x.settle()
	}
}

// handOver leaves the end to upload, if that is about to come to it. An application that has answered without reading the last
// record will not read it any more.
func (x *exchange) handOver() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.upload == nil || !x.last || x.over {
		return false
	}
	x.handed = true
	_ = x.c.SetWriteDeadline(time.Now().Add(time.Second)) // if the connection is closed, Write says so
	return true
}

// settle keeps the connection after a whole answer, if the body was sent whole too.
func (x *exchange) settle() {
	x.mu.Lock()
	sent, handed := x.sent || x.upload == nil, x.handed
	x.mu.Unlock()
	if !sent {
		_ = x.c.Close() // of no use any more
		return
	}
	if handed {
		_ = x.c.SetWriteDeadline(time.Time{}) // if the connection is closed, the next request notices
	}
	x.t.pool.put(x.c)
}

// explain returns what ended the exchange: the visitor who left or broke off, or else what the connection met.
func (x *exchange) explain(err error) error {
	if cause := x.r.Context().Err(); cause != nil {
		return cause
	}
	if x.upload != nil {
		if cause := x.upload.failure.Load(); cause != nil {
			return *cause
		}
	}
	return err
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
