package frontend

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watchStalls cuts, until ctx ends, what clients do not take: connections whose peer has not acknowledged anything for
// Options.Stall though something waits for it, and HTTP/2 streams that wait as long for their window. What is idle since
// nothing is sent waits for nobody.
func (s *Server) watchStalls(ctx context.Context) {
	ticker := time.NewTicker(min(max(s.options.Stall/10, 10*time.Millisecond), 30*time.Second))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, c := range s.known.list() {
				c.cutStalled(now, s.options.Stall)
			}
		}
	}
}

// taking is how far a client has come in what it is sent. It belongs to watchStalls.
type taking struct {
	acknowledged uint64
	since        time.Time // it has been that many; zero while nothing waits
}

func (c *connection) cutStalled(now time.Time, stall time.Duration) {
	waiting, acknowledged := sendQueue(c.Conn)
	switch {
	case waiting == 0:
		c.taking = taking{}
		if c.framed != nil {
			c.resetStalled(now.Add(-stall))
		}
	case c.taking.since.IsZero() || acknowledged != c.taking.acknowledged:
		c.taking = taking{acknowledged, now}
	case now.Sub(c.taking.since) >= stall:
		c.refused(Stalled)
		c.cut()
	}
}

// resetStalled resets the streams whose answer has hung in a single write since before a moment.
func (c *connection) resetStalled(before time.Time) {
	c.mu.Lock() // so that none finishes meanwhile
	defer c.mu.Unlock()
	for _, a := range c.answers {
		if since := a.writing.Load(); since != 0 && since < before.UnixNano() && !a.broken {
			a.broken = true
			c.refused(Stalled)
			a.reset()
		}
	}
}

// sendQueue returns how many bytes wait in the kernel for the peer, and, if there are any, how many it has acknowledged in all.
func sendQueue(conn net.Conn) (waiting int, acknowledged uint64) {
	raw := socketOf(conn)
	if raw == nil {
		return 0, 0
	}
	_ = raw.Control(func(fd uintptr) { // fails on a closed connection only
		queued, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		if err != nil || queued == 0 {
			return
		}
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			waiting, acknowledged = queued, info.Bytes_acked
		}
	})
	return waiting, acknowledged
}

// socketOf returns the socket of a connection, below TLS; nil if there is none.
func socketOf(conn net.Conn) syscall.RawConn {
	if secure, ok := conn.(interface{ NetConn() net.Conn }); ok {
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
