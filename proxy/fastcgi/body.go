package fastcgi

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// body is an answer's body. It ends when the application has ended the request, not before: only then is it sure that all is well.
// It may be closed while another goroutine reads.
type body struct {
	x      *exchange
	rest   []byte // of what came with the header
	left   int64  // until Content-Length is reached; -1 if there is none
	silent bool   // what comes is not part of the answer
	err    error  // once it is over
	closed atomic.Bool
}

// newBody returns the body for a response whose header was read. HEAD, 204 and 304 have none, whatever the application writes.
func newBody(x *exchange, response *http.Response, rest []byte) *body {
	silent := x.r.Method == http.MethodHead || response.StatusCode == http.StatusNoContent || response.StatusCode == http.StatusNotModified
	return &body{x: x, rest: rest, left: response.ContentLength, silent: silent}
}

// Read reads on. An answer that is shorter or longer than it said is an error, after as much of it as it said.
func (b *body) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.silent {
		b.drain()
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	n, err := b.next(p)
	switch {
	case b.left >= 0 && int64(n) > b.left:
		n, err = int(b.left), errTooMuch
	case errors.Is(err, io.EOF) && b.left > int64(n):
		err = errTooLittle
	}
	if b.left >= 0 {
		b.left -= int64(n)
	}
	if err != nil {
		b.over(err)
	}
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// drain reads what is not part of the answer, to keep the connection if it is little and comes soon. Whatever it meets, the
// answer is whole.
func (b *body) drain() {
	const most, patience = 64 << 10, time.Second
	if b.err != nil {
		return
	}
	_ = b.x.c.SetReadDeadline(time.Now().Add(patience)) // if the connection is closed, Read says so
	n, err := io.Copy(io.Discard, io.LimitReader(&b.x.answer, most))
	_ = b.x.c.SetReadDeadline(time.Time{}) // as above
	b.err = io.EOF
	b.x.finish(err == nil && n < most && b.x.answer.ended)
}

func (b *body) next(p []byte) (int, error) {
	if len(b.rest) > 0 {
		n := copy(p, b.rest)
		b.rest = b.rest[n:]
		return n, nil
	}
	return b.x.answer.Read(p)
}

// over is for when there will be nothing more to read.
func (b *body) over(err error) {
	if err != io.EOF { //nolint:errorlint // answer returns it as it is
		err = b.x.explain(err)
	}
	b.err = err
	b.x.finish(err == io.EOF) //nolint:errorlint // as above
}

// Close ends the exchange, if it has not ended.
func (b *body) Close() error {
	b.closed.Store(true)
	b.x.finish(false)
	return nil
}
