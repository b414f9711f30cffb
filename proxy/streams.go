package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
)

// recorder notes what is answered. It hides nothing: http.ResponseController finds the rest through Unwrap.
type recorder struct {
	http.ResponseWriter
	status int // 0 until the answer itself begins
	bytes  int64
	err    error   // the first write that failed
	tunnel *tunnel // after a 101
	duplex *upload // of an HTTP/1.1 request, where it and the answer may go on at the same time
}

// allowDuplex lets the answer begin before the request has ended. Without it net/http swallows what is left of the
// request, which the target still waits for. HTTP/2 always allows it.
func (w *recorder) allowDuplex(r *http.Request, u *upload) {
	if u != nil && r.ProtoMajor == 1 && http.NewResponseController(w.ResponseWriter).EnableFullDuplex() == nil {
		w.duplex = u
	}
}

// Unwrap is for http.ResponseController: flush, hijack, deadlines, full duplex.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader begins the answer, unless the status is informational. A connection whose request has not ended by then
// serves no other: net/http may lose its place in it (golang/go#68560).
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
		if w.duplex != nil && !w.duplex.ended.Load() {
			w.Header().Set("Connection", "close")
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write counts what net/http takes.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("%w: %w", errVisitorLeft, err)
	}
	return n, err
}

// upload is a request's body. A goroutine of the transport's reads it, maybe for longer than the answer takes.
type upload struct {
	io.ReadCloser
	bytes atomic.Int64
	ended atomic.Bool // all of it has been read
}

func (u *upload) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	u.bytes.Add(int64(n))
	if errors.Is(err, io.EOF) {
		u.ended.Store(true)
	}
	return n, err
}

// download is an answer's body.
type download struct {
	io.ReadCloser
	exchange *exchange
}

func (d *download) Read(b []byte) (int, error) {
	n, err := d.ReadCloser.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		d.exchange.note(err)
	}
	return n, err
}

// note keeps what ended the target's answer. When the visitor leaves, that is what ends.
func (e *exchange) note(err error) {
	switch {
	case e.broke != nil:
	case e.in.Context().Err() != nil:
		e.broke = errVisitorLeft
	default:
		e.broke = fmt.Errorf("the target broke off in the middle of the answer: %w", err)
	}
}

var errVisitorLeft = errors.New("the visitor left in the middle of the answer")
