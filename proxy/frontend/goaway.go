package frontend

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// framedConn follows the frames that an HTTP/2 server writes, so that it can put a frame of its own between two of
// them: GOAWAY with the highest stream id there is, the warning of RFC 9113 §6.8. Without it, net/http's single GOAWAY
// refuses streams that the client opened before it arrived.
//
// It must not have a method ConnectionState, or net/http would take it for TLS and never look for HTTP/2.
type framedConn struct {
	*connection
	tls   *tls.ConnectionState
	flood *flood
	head  headClock

	asked  atomic.Bool  // Drain has seen to the warning
	wanted atomic.Bool  // the warning is to be sent
	warned atomic.Int64 // when it was, in Unix nanoseconds; 0 for not yet
	// farewell is the error code of the GOAWAY that is to be sent instead, since the connection ends now, and 1; 0 for none.
	farewell atomic.Uint32

	mu sync.Mutex // held while something is written
	at position
}

// announceTimeout is how long a client that does not read may hold up the warning; it then loses the connection.
const announceTimeout = 5 * time.Second

// newFramedConn returns a connection that is not yet known.
func (r *registry) newFramedConn(c net.Conn, state *tls.ConnectionState) *framedConn {
	framed := &framedConn{connection: r.newConnection(c), tls: state, flood: newFlood(r.streams), head: headClock{limit: r.headTimeout}}
	framed.flood.trusted = r.trusts(c)
	framed.at.entered = framed.flood.answered
	framed.connection.framed = framed
	return framed
}

// goAway returns the frame GOAWAY(last stream 2^31-1, NO_ERROR).
func goAway() []byte { return goAwayWith(1<<31-1, noError) }

// announce sends the warning as soon as a frame has ended, once. It does not wait for a write that is going on: that
// one sends it when it is done.
func (c *framedConn) announce() {
	if c.warned.Load() == 0 {
		c.wanted.Store(true)
		c.insertIfDue()
	}
}

// insertIfDue is called whenever wanted may have been set behind the back of the one who held the lock.
func (c *framedConn) insertIfDue() {
	for c.wanted.Load() && c.mu.TryLock() {
		due := c.due()
		if due && c.insert() != nil {
			c.cut() // half a frame may be on its way
		}
		c.mu.Unlock()
		if !due {
			return // the write that completes the frame does it
		}
	}
}

// warnedFor reports whether the client has had the warning for a while, or needs none.
func (c *framedConn) warnedFor(delay time.Duration, now time.Time) bool {
	warned := c.warned.Load()
	return warned != 0 && now.Sub(time.Unix(0, warned)) >= delay
}

func (c *framedConn) due() bool { return c.at.border() && c.wanted.Load() }

func (c *framedConn) insert() error {
	c.wanted.Store(false)
	frame := goAway()
	if farewell := c.farewell.Load(); farewell != 0 {
		frame = goAwayWith(c.flood.highest.Load(), farewell-1)
		c.at.gone = true
	} else if c.warned.Load() != 0 {
		return nil
	}
	c.warned.Store(time.Now().UnixNano())
	_ = c.SetWriteDeadline(time.Now().Add(announceTimeout))
	_, err := c.Conn.Write(frame)
	_ = c.SetWriteDeadline(time.Time{})
	return err
}

// Write passes the server's bytes on, and the warning after the first frame that ends in them.
func (c *framedConn) Write(b []byte) (int, error) {
	n, err := c.writeLocked(b)
	c.insertIfDue()
	return n, err
}

func (c *framedConn) writeLocked(b []byte) (written int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for seen := 0; seen < len(b); {
		seen += c.at.follow(b[seen:])
		if c.at.gone {
			c.warned.CompareAndSwap(0, time.Now().UnixNano()) // by the server itself, idle or unhappy
		}
		if !c.due() {
			continue
		}
		n, err := c.Conn.Write(b[written:seen])
		written += n
		if err != nil {
			return written, err
		}
		if err := c.insert(); err != nil {
			return written, err
		}
	}
	if written == len(b) {
		return written, nil
	}
	n, err := c.Conn.Write(b[written:])
	return written + n, err
}
