package fastcgi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is one request and its answer.
type exchange struct {
	t     *Transport
	r     *http.Request
	where place

	c      *connection
	kept   bool        // c was kept from an earlier request
	stale  bool        // c was dead, and the application acted upon nothing
	stop   func() bool // ends the watch over the request's context
	spool  *spool      // the body, if nobody said its length
	upload *upload     // nil if there is no body
	answer answer
	ended  atomic.Bool // finish was called for c

	mu     sync.Mutex // between upload and answer, for what is below
	headed bool       // the answer's header has come
	last   bool       // the last record of the body is being sent, or was
	sent   bool       // the body was sent whole
	over   bool       // nothing more of the body is sent
	handed bool       // the answer is over, and upload ends the exchange
}

// run does the exchange up to the answer's header. After an error the connection is gone.
func (x *exchange) run(fresh bool) (*http.Response, error) {
	x.stale = false
	x.ended.Store(false)
	if err := x.connect(fresh); err != nil {
		return nil, err
	}
	length, refused, err := x.measure()
	if err != nil || refused != nil {
		_ = x.c.Close() // nothing was sent
		return refused, err
	}
	if err := x.renew(); err != nil {
		return nil, err
	}
	request, ok := x.t.appendRequest(x.c.out[:0], x.r, x.where, length)
	x.c.out = request
	if !ok {
		_ = x.c.Close() // nothing was sent
		return refuse(x.r, http.StatusRequestHeaderFieldsTooLarge, "A header field of the request is too long."), nil
	}
	c := x.c
	x.stop = context.AfterFunc(x.r.Context(), func() { _ = c.Close() }) // whoever waits for the connection reports it
	if err := x.send(request, length); err != nil {
		x.finish(false)
		return nil, x.explain(err)
	}
	response, err := x.receive()
	if err != nil {
		x.finish(false)
		return nil, x.explain(err)
	}
	return response, nil
}

// renew replaces a kept connection that has become too old while the body was read.
func (x *exchange) renew() error {
	if x.spool == nil || !x.kept || time.Since(x.c.since) < idleUnrepeatable {
		return nil
	}
	_ = x.c.Close() // it is given up
	return x.connect(true)
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

// measure finds out how long the body is, -1 for none. A body that is too long is answered.
func (x *exchange) measure() (length int64, refused *http.Response, err error) {
	switch {
	case x.r.Body == nil || x.r.Body == http.NoBody:
		if isRepeatable(x.r) {
			return -1, nil, nil
		}
		return 0, nil, nil
	case x.r.ContentLength > 0:
		return x.r.ContentLength, nil, nil
	case x.spool == nil:
		x.spool, err = x.t.readSpool(x.r.Body)
	}
	switch {
	case errors.Is(err, errSpoolLong):
		return 0, refuse(x.r, http.StatusRequestEntityTooLarge, "The body of the request is too long."), nil
	case errors.Is(err, errSpoolFull):
		return 0, refuse(x.r, http.StatusServiceUnavailable, "There is no room for the body of the request now."), nil
	case err != nil:
		return 0, nil, err
	}
	return x.spool.length, nil, nil
}

// send sends the beginning of the request, and lets the body follow on its own.
func (x *exchange) send(request []byte, length int64) error {
	beginning := len(request)
	if length <= 0 {
		request = appendHeader(request, typeStdin, 0)
		x.c.out = request
	}
	if x.t.config.ResponseTimeout > 0 {
		_ = x.c.SetDeadline(time.Now().Add(x.t.config.ResponseTimeout)) // if the connection is closed, Write says so
	}
	if n, err := x.c.Write(request); err != nil {
		x.stale = x.kept && n < beginning && !isTimeout(err) // no application acts upon half of a beginning
		return err
	}
	if length > 0 {
		_ = x.c.SetReadDeadline(time.Time{}) // until the body is sent
		x.upload = &upload{x: x, c: x.c, from: x.r.Body, left: length}
		if x.spool != nil {
			x.upload.from = x.spool
		}
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

// closeBody is for when nothing more of the body is needed.
func (x *exchange) closeBody() {
	if x.spool != nil {
		x.spool.drop()
	}
	closeBody(x.r)
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
