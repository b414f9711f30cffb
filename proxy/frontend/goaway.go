package frontend

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// framedConn follows the frames that an HTTP/2 server writes, so that it can put a frame of its own between two of
// them: GOAWAY with the highest stream id there is, the warning of RFC 9113 §6.8. Without it, net/http's single GOAWAY
// refuses streams that the client opened before it arrived.
//
// It must not have a method ConnectionState, or net/http would take it for TLS; so only net.Conn is embedded.
type framedConn struct {
	net.Conn
	state *tls.ConnectionState

	mu        sync.Mutex
	header    [frameHeader]byte
	have      int  // bytes of the header that were seen
	left      int  // bytes of the payload that are still to come
	whole     bool // a frame has been written: the server's SETTINGS must come first (RFC 9113 §3.4)
	headers   bool // between HEADERS and the last CONTINUATION, where no other frame may come (§6.10)
	wanted    bool
	announced bool
}

const (
	frameHeader       = 9
	flagEndHeaders    = 0x4
	frameHeaders      = 0x1
	framePushPromise  = 0x5
	frameContinuation = 0x9
	announceTimeout   = time.Second
)

// goAway returns the frame GOAWAY(last stream 2^31-1, NO_ERROR).
func goAway() []byte {
	return []byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}
}

// announce sends the warning as soon as a frame has ended, once.
func (c *framedConn) announce() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.announced || c.wanted {
		return
	}
	c.wanted = true
	if c.between() {
		// A client that does not read must not hold the drain up. The server sets deadlines of its own for each write.
		_ = c.SetWriteDeadline(time.Now().Add(announceTimeout))
		_ = c.insert()
		_ = c.SetWriteDeadline(time.Time{})
	}
}

func (c *framedConn) between() bool {
	return c.whole && c.have == 0 && c.left == 0 && !c.headers
}

func (c *framedConn) insert() error {
	c.announced = true
	_, err := c.Conn.Write(goAway())
	return err
}

// Write passes the server's bytes on, and the warning after the first frame that ends in them.
func (c *framedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	written := 0
	for at := 0; at < len(b); {
		at += c.follow(b[at:])
		if c.wanted && !c.announced && c.between() {
			n, err := c.Conn.Write(b[written:at])
			written += n
			if err != nil {
				return written, err
			}
			if err := c.insert(); err != nil {
				return written, err
			}
		}
	}
	if written == len(b) {
		return written, nil
	}
	n, err := c.Conn.Write(b[written:])
	return written + n, err
}

// follow looks at the next piece of one frame, and returns how many bytes it is.
func (c *framedConn) follow(b []byte) int {
	if c.left > 0 {
		n := min(c.left, len(b))
		c.left -= n
		c.whole = c.whole || c.left == 0
		return n
	}
	n := copy(c.header[c.have:], b)
	c.have += n
	if c.have < frameHeader {
		return n
	}
	c.have = 0
	c.left = int(c.header[0])<<16 | int(c.header[1])<<8 | int(c.header[2])
	switch c.header[3] {
	case frameHeaders, framePushPromise, frameContinuation:
		c.headers = c.header[4]&flagEndHeaders == 0
	}
	c.whole = c.whole || c.left == 0
	return n
}
