package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"

	"cutover/proxy/upstream"
)

// events is the body of an event stream (text/event-stream, HTML §9.2). When it is to end, it ends after a whole event, as
// if the target had ended it there: the visitor comes back and says which event was his last.
type events struct {
	io.ReadCloser
	cancel  context.CancelFunc // of the request to the target: it ends a Read that waits
	visible bool               // the bytes are the events themselves, not compressed

	mu     sync.Mutex
	at     eventPosition
	ending bool
}

// events returns an answer's body. If it is an event stream, it ends when it is time, by way of cancel.
func (h *Handler) events(e *exchange, r *http.Response, cancel context.CancelFunc) io.ReadCloser {
	if !upstream.IsEventStream(r.Header) {
		return r.Body
	}
	e.parting = h.newParting(e)
	coding := r.Header.Get("Content-Encoding")
	s := &events{ReadCloser: r.Body, cancel: cancel, visible: coding == "" || coding == "identity", at: newEventPosition()}
	e.parting.watch(func() { s.end(e.parting) })
	return s
}

// end ends the stream at once if no event is under way, and soon in any case: browsers drop half an event.
func (s *events) end(p *parting) {
	s.mu.Lock()
	s.ending = true
	border := s.at.border || !s.visible
	s.mu.Unlock()
	if !border {
		p.await(nil, borderWait)
	}
	s.cancel()
}

// Read is the target's, up to the end of an event once the stream is to end.
func (s *events) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	border := s.at.border
	whole := s.at.follow(b[:n])
	switch {
	case !s.ending:
		return n, err
	case s.visible && (border || whole > 0):
		return whole, io.EOF
	case errors.Is(err, context.Canceled):
		return n, io.EOF // by end
	}
	return n, err
}

// eventPosition is a place in an event stream.
type eventPosition struct {
	border bool // after an empty line, where an event has ended
	empty  bool // the line has no byte yet
	blank  bool // the line before was empty
	cr     bool // the byte before was CR, to which LF may belong
	crlf   bool // it did before, and is waited for: some clients know no other end of a line
}

// newEventPosition returns the begin of a stream.
func newEventPosition() eventPosition { return eventPosition{border: true, empty: true} }

// follow goes on by some bytes, and returns how many of them come before the last border among them.
func (p *eventPosition) follow(b []byte) (whole int) {
	for i, c := range b {
		switch {
		case c == '\n' && p.cr:
			p.cr, p.crlf = false, true
			p.border = p.blank
		case c == '\n' || c == '\r':
			p.blank, p.empty, p.cr = p.empty, true, c == '\r'
			p.border = p.blank && (!p.cr || !p.crlf)
		default:
			p.border, p.empty, p.cr = false, false, false
		}
		if p.border {
			whole = i + 1
		}
	}
	return whole
}
