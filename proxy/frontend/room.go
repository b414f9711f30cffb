package frontend

import (
	"net/http"
	"slices"
	"time"
)

const (
	roomShare = 64          // MakeRoom closes this part of what is open, so that a look at all of it is not needed each time
	newGrace  = time.Second // how long a connection without a request is left alone
	fewBytes  = 2048        // that may wait in the kernel, which has room for more
)

// MakeRoom closes connections on which nothing happens, those that have rested longest first: a few of many, so that
// it can be called whenever a connection more is one too many. It returns how many it has closed. Connections that wait for
// their first request are the last to go.
func (s *Server) MakeRoom() int {
	open := s.known.list()
	latest := time.Now().Add(-newGrace).UnixNano()
	resting := slices.DeleteFunc(open, func(c *connection) bool {
		return c.closing.Load() || !c.is(http.StateIdle) && (!c.is(http.StateNew) || c.since.Load() > latest)
	})
	slices.SortFunc(resting, longestFirst)
	closed, due := 0, 1+len(open)/roomShare
	for _, c := range resting {
		if closed == due {
			break
		}
		if c.unused() && !c.closing.Swap(true) {
			c.refused(Resting)
			c.leave()
			closed++
		}
	}
	return closed
}

// unused reports whether nothing has come on a connection that rests. Over HTTP/2 much may come that is no request.
func (c *connection) unused() bool {
	if c.framed != nil {
		return !unread(c.Conn)
	}
	return c.silent()
}

// leave closes a connection on which nothing happens, at once: a GOAWAY that might have to wait is not said.
func (c *connection) leave() {
	if waiting, _ := sendQueue(c.Conn); c.framed != nil && waiting < fewBytes {
		c.framed.sayGoAway(noError)
	}
	c.cut()
}
