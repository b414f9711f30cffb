package frontend

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"time"
)

var errDismissed = errors.New("the connection was ended: its client sends too much of what is no request, or a head that does not end")

// refused tells why a client is cut off.
func (c *connection) refused(reason string) {
	if c.onRefused != nil {
		c.onRefused(reason, c.RemoteAddr())
	}
}

// tooLarge is how net/http's own answer to a head that is too long begins; no handler's has these fields in this order.
const tooLarge = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n431"

// Write counts the answers that net/http gives in the handler's stead.
func (c *connection) Write(b []byte) (int, error) {
	if len(b) > len(tooLarge) && bytes.HasPrefix(b, []byte(tooLarge)) {
		c.refused(HeaderBytes)
	}
	return c.Conn.Write(b)
}

// readFailed looks at a read that took too long. Before there is a request, net/http waits for a head; one that was not
// begun is no offence. What is late after the begin of HTTP/2 is the framedConn's business. At the end of each request net/http
// lets a read time out by which it has watched whether the client leaves, so what matters is found out before what the error is.
func (c *connection) readFailed(err error) {
	if c.framed != nil && !c.framed.head.until.IsZero() {
		return
	}
	slow := (c.is(http.StateNew) || c.is(http.StateIdle)) && c.heard.Load() != 0
	late := c.bodyLate()
	if !slow && !late || !isTimeout(err) {
		return
	}
	if slow {
		c.refused(SlowHeader)
	}
	if late {
		c.over.Store(true)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// last reports whether a request must be the last on its connection since its framing is doubtful: what follows its body
// for us may belong to it for a proxy before us. HTTP/1.0 knows no chunked bodies, and net/http passes over the field that
// would tell of one (RFC 9112 §6.1).
func (c *connection) last(r *http.Request) bool {
	return !r.ProtoAtLeast(1, 1) || len(r.TransferEncoding) > 0 && c.lengths.found.Load()
}

// countError is told by net/http of mistakes over HTTP/2. One of them is a flood: requests that their client takes back
// faster than handlers can end.
func (s *Server) countError(kind string) {
	if kind == "conn_ENHANCE_YOUR_CALM_too_many_early_resets" && s.options.OnRefused != nil {
		s.options.OnRefused(Resets, nil)
	}
}

// hurryBody bounds the time for what is left of a request's body: net/http reads some of what no handler has read, before
// it answers or to keep the connection, for as long as the client likes. The next request has a deadline of its own.
func (w *lameWriter) hurryBody() {
	if !w.body || w.hijacked {
		return
	}
	deadline := time.Now()
	if !w.late.Load() {
		deadline = deadline.Add(w.server.options.BodyGrace)
	}
	w.on.bodyUntil.Store(deadline.UnixNano())
	_ = w.on.SetReadDeadline(deadline) // fails on a closed connection only
}

// bodyLate ends a connection whose request's body did not end in time. net/http would take what is still to come of it for
// the next request.
func (c *connection) bodyLate() bool {
	until := c.bodyUntil.Load()
	return until != 0 && c.is(http.StateActive) && time.Now().UnixNano() >= until
}
