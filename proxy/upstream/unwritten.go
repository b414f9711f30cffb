package upstream

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"syscall"
)

// A target closes a connection that rests, and may do so at the moment when it gets a request. As long as nothing of that was
// written, it can be sent again, be it a POST. net/http does so only if it has a GetBody; but with one it repeats every request that
// has an Idempotency-Key, sent or not. So lanes see to it themselves. The body need not be kept for it: net/http writes the header before
// it reads any of it.

// takeOpen is take for a request, and returns the lane's connection, nil if it is to be made. One that the target has closed is of
// no use, though the transport may not know yet.
func (l *lanes) takeOpen() (*lane, *laneConn) {
	for {
		at := l.take()
		kept := at.connection()
		if kept == nil || !l.careful || !hasEnded(kept.Conn) {
			return at, kept
		}
		at.transport.CloseIdleConnections()
	}
}

func (at *lane) connection() *laneConn {
	at.lanes.mu.Lock()
	defer at.lanes.mu.Unlock()
	return at.conn
}

// hasEnded reports whether something else than a request's answer is there to read on a connection that rests: its end, or what
// nobody has asked for. It never waits.
func hasEnded(conn net.Conn) bool {
	raw := socketOf(conn)
	if raw == nil {
		return false
	}
	readable := true
	err := raw.Control(func(fd uintptr) { // not Read, for which the transport's own would have to end
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		readable = err != syscall.EAGAIN
	})
	return err != nil || readable
}

// socketOf returns what a connection is for the kernel; nil if that is not known.
func socketOf(conn net.Conn) syscall.RawConn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// hasWrittenNothing reports whether a request that got no answer was to be sent over the connection from before and nothing of it
// was. Then nothing will be.
func (at *lane) hasWrittenNothing(kept *laneConn) bool {
	at.lanes.mu.Lock()
	defer at.lanes.mu.Unlock()
	if kept == nil || at.last != kept || kept.wrote {
		return false
	}
	kept.givenUp = true
	return true
}

// begin is for what is to be written; wrote says whether something of the request was before.
func (c *laneConn) begin() (wrote bool, err error) {
	c.lane.lanes.mu.Lock()
	defer c.lane.lanes.mu.Unlock()
	if c.givenUp {
		return false, net.ErrClosed
	}
	wrote = c.wrote
	c.asked, c.wrote = true, true
	return wrote, nil
}

// wroteNothing is for when that could not be written.
func (c *laneConn) wroteNothing() {
	c.lane.lanes.mu.Lock()
	defer c.lane.lanes.mu.Unlock()
	c.wrote = false
}

// rewindable is a body that can be had from its begin.
type rewindable interface {
	again() (io.ReadCloser, error)
}

// again returns the body of the attempt from its begin.
func (r *keptReader) again() (io.ReadCloser, error) { return r.of.again() }

// again is what http.Request.GetBody wants, for a body whose readers may follow each other.
func again(body io.ReadCloser) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		rewindable, ok := body.(rewindable)
		if !ok {
			return nil, errLost
		}
		return rewindable.again()
	}
}

// rewind replaces a request by one whose body is at its begin, and reports whether that could be done and somebody still wants it.
func rewind(r **http.Request) bool {
	if (*r).Context().Err() != nil {
		return false
	}
	if (*r).Body == nil || (*r).Body == http.NoBody {
		return true
	}
	fresh, err := again((*r).Body)()
	if err != nil {
		return false
	}
	again := *(*r)
	again.Body = fresh
	*r = &again
	return true
}
