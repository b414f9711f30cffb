package frontend

import (
	"bufio"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// lameWriter tells an HTTP/1.1 client with its answer that the connection ends, while the server drains: then no request
// of the client's can cross the closing (RFC 9112 §9.6). It adds the header at the last moment, since a drain may begin
// while the handler works.
type lameWriter struct {
	*answer
	hijacked bool
	last     bool        // the request is the last on its connection whether or not the server drains
	body     bool        // the request has a body
	duplex   bool        // it may come while the answer goes
	late     atomic.Bool // the handler does not wait for it any more
}

func newLameWriter(a *answer) *lameWriter {
	w := &lameWriter{answer: a}
	a.begin = w.start
	return w
}

func (w *lameWriter) start() {
	if !w.begun && (w.last || w.server.Draining()) {
		w.Header().Set("Connection", "close")
	}
	if !w.begun && !w.duplex {
		w.hurryBody() // net/http reads it before it sends anything
	}
	w.answer.start()
}

// Hijack makes the connection a tunnel: it counts as one until the handler has returned and the connection is closed.
func (w *lameWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && !w.hijacked {
		w.hijacked = true
		w.server.tunneling.Add(1)
	}
	return conn, buffered, err
}

// EnableFullDuplex lets the handler read the request's body after it has begun to answer.
func (w *lameWriter) EnableFullDuplex() error {
	w.duplex = true
	return http.NewResponseController(w.ResponseWriter).EnableFullDuplex()
}

// SetReadDeadline bounds the time for the request's body. One that has passed by now leaves what is still to come of it no
// grace.
func (w *lameWriter) SetReadDeadline(deadline time.Time) error {
	w.late.Store(!deadline.IsZero() && deadline.Before(time.Now()))
	return w.on.SetReadDeadline(deadline)
}

// finish is for when the handler has returned: net/http may be about to answer in its stead.
func (w *lameWriter) finish() {
	if w.hijacked {
		w.server.tunneling.Add(-1)
	} else {
		w.begin()
	}
	w.hurryBody()
	w.answer.finish()
}
