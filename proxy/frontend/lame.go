package frontend

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// lameWriter tells an HTTP/1.1 client with its answer that the connection ends, while the server drains: then no request
// of the client's can cross the closing (RFC 9112 §9.6). It adds the header at the last moment, since a drain may begin
// while the handler works.
type lameWriter struct {
	http.ResponseWriter
	server   *Server
	begun    bool // the answer's head is beyond reach
	hijacked bool
}

// Unwrap lets http.ResponseController reach deadlines and full duplex.
func (w *lameWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader begins the answer, unless the status is informational or switches protocols.
func (w *lameWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		w.begin()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write begins the answer, like WriteHeader(200), if nothing has yet.
func (w *lameWriter) Write(b []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(b)
}

// WriteString is Write without a copy.
func (w *lameWriter) WriteString(text string) (int, error) {
	w.begin()
	return io.WriteString(w.ResponseWriter, text)
}

// ReadFrom is Write from a reader; net/http lets the kernel copy where it can.
func (w *lameWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	return io.Copy(w.ResponseWriter, r)
}

// Flush is http.Flusher.
func (w *lameWriter) Flush() { _ = w.FlushError() } // an http.Flusher cannot tell

// FlushError sends what was written so far, the head too.
func (w *lameWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
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

func (w *lameWriter) begin() {
	if w.begun {
		return
	}
	w.begun = true
	if w.server.Draining() {
		w.Header().Set("Connection", "close")
	}
}

// finish is for when the handler has returned: net/http may be about to answer in its stead.
func (w *lameWriter) finish() {
	if w.hijacked {
		w.server.tunneling.Add(-1)
		return
	}
	w.begin()
}
