package frontend

import (
	"errors"
	"net"
	"time"
)

// headOpen reports whether a request's head, or a trailer, was begun and has not ended: no other frame may come until it has
// (RFC 9113 §6.10).
func (a *arrivals) headOpen() bool {
	if a.head.kind != frameHeaders && a.head.kind != frameContinuation {
		return false
	}
	return a.left > 0 || a.head.flags&flagEndHeaders == 0
}

// headClock bounds the time for a head over HTTP/2, which net/http does not. It belongs to the one who reads.
type headClock struct {
	limit time.Duration
	until time.Time // zero while no head is under way
}

// beforeRead bounds a read by what is left of a head's time. It does so each time: net/http sets the deadline, too, when a
// connection begins.
func (h *headClock) beforeRead(c net.Conn) {
	if !h.until.IsZero() {
		_ = c.SetReadDeadline(h.until) // fails on a closed connection only
	}
}

// afterRead notes whether a head is under way.
func (h *headClock) afterRead(c net.Conn, open bool) {
	switch {
	case open && h.until.IsZero():
		h.until = time.Now().Add(h.limit)
	case !open && !h.until.IsZero():
		h.until = time.Time{}
		_ = c.SetReadDeadline(time.Time{}) // fails on a closed connection only
	}
}

// late reports whether a read has failed since a head is not there in time.
func (h *headClock) late(err error) bool {
	var timeout net.Error
	return !h.until.IsZero() && errors.As(err, &timeout) && timeout.Timeout()
}
