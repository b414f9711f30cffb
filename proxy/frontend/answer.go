package frontend

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// answer is the http.ResponseWriter that the handler gets. It sees what kind of answer a request has: one that ends by
// itself, or a stream of events (text/event-stream) that goes on until somebody ends it. HTTP/2 has it as it is; of HTTP/1.1
// a lameWriter is made.
type answer struct {
	http.ResponseWriter
	server *Server
	on     *connection
	begin  func() // at the last moment before the answer's head is beyond reach
	begun  bool
	events bool // an event stream; guarded by on.mu
	broken bool // a drain has cut it, or it has stalled; guarded by on.mu
	// writing is since when a write to an HTTP/2 stream goes on; Unix nanoseconds, 0 for none.
	writing atomic.Int64
}

// newAnswer makes a request known. The caller ends it with finish.
func (s *Server) newAnswer(w http.ResponseWriter, on *connection) *answer {
	a := &answer{ResponseWriter: w, server: s, on: on}
	a.begin = a.start
	on.addAnswer(a)
	return a
}

// start looks at the answer's head, once.
func (a *answer) start() {
	if a.begun {
		return
	}
	a.begun = true
	if isEventStream(a.Header()) {
		a.on.setEvents(a)
		a.server.streaming.Add(1)
	}
}

func isEventStream(header http.Header) bool {
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

// finish is for when the handler has returned. From then on the http.ResponseWriter must not be used.
func (a *answer) finish() {
	if a.on.removeAnswer(a) {
		a.server.streaming.Add(-1)
	}
	if a.on.framed != nil && !a.broken { // nobody else writes it any more
		a.leaveRest()
	}
}

// leaveRest bounds the time for what the handler has left: net/http keeps up to 4 KiB of an HTTP/2 answer until then, and
// waits as long as the client likes for its window.
func (a *answer) leaveRest() {
	_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(a.server.options.Stall)) // never fails over HTTP/2
}

// reset breaks the answer off, of HTTP/2 with RST_STREAM. It must not run after finish.
func (a *answer) reset() {
	_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Unix(1, 0)) // it can only be over already
}

// Unwrap lets http.ResponseController reach deadlines and full duplex.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader begins the answer, unless the status is informational or switches protocols.
func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK {
		a.begin()
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write begins the answer, like WriteHeader(200), if nothing has yet.
func (a *answer) Write(b []byte) (int, error) {
	a.sending()
	defer a.sent()
	return a.ResponseWriter.Write(b)
}

// WriteString is Write without a copy.
func (a *answer) WriteString(text string) (int, error) {
	a.sending()
	defer a.sent()
	return io.WriteString(a.ResponseWriter, text)
}

// ReadFrom is Write from a reader; over HTTP/1.1 net/http lets the kernel copy where it can.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	if a.on.framed != nil {
		return io.Copy(struct{ io.Writer }{a}, r)
	}
	a.begin()
	return io.Copy(a.ResponseWriter, r)
}

// Flush is http.Flusher.
func (a *answer) Flush() { _ = a.FlushError() } // an http.Flusher cannot tell

// FlushError sends what was written so far, the head too.
func (a *answer) FlushError() error {
	a.sending()
	defer a.sent()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// sending is for when something is about to be sent that may have to wait for the client; sent is for when that is done. Of
// HTTP/1.1 watchStalls looks at the connection alone.
func (a *answer) sending() {
	a.begin()
	if a.on.framed != nil {
		a.writing.Store(time.Now().UnixNano())
	}
}

func (a *answer) sent() { a.writing.Store(0) }
