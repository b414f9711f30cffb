package frontend

import (
	"bytes"
	"sync/atomic"
	"time"
)

// lengths looks for a Content-Length among the lines that a client sends, wherever one may be a header's: net/http takes
// the field away where a chunked body comes with it, and leaves no trace (RFC 9112 §6.3 has the connection closed then).
// What it finds in a body, or of a request that came along with the one before, is a false alarm, and costs the client a
// connection at most.
type lengths struct {
	at    int         // bytes of the word that were matched
	found atomic.Bool // since the last request that nothing came along with
	step  atomic.Int32
}

// Steps from one request to the next.
const (
	within   int32 = iota // a request, or its head
	ended                 // one has ended
	awaiting              // net/http waits for the next, and has less than four bytes of it
)

// requestEnded is for when net/http says that the connection rests.
func (l *lengths) requestEnded() { l.step.Store(ended) }

// deadlineSet is for when net/http bounds a read. It does so before it waits for a request's first four bytes, and again
// before it reads on: what it reads in between shows that nothing of the next request had come, and what it reads later,
// that may be the rest of a head whose begin it had.
func (l *lengths) deadlineSet() {
	if !l.step.CompareAndSwap(ended, awaiting) {
		l.step.Store(within)
	}
}

// readBegins forgets what earlier requests had: four bytes are no header.
func (l *lengths) readBegins() {
	if l.step.Load() == awaiting {
		l.found.Store(false)
	}
}

// lengthLine is how such a line begins after the one before.
const lengthLine = "\ncontent-length"

func (l *lengths) follow(b []byte) {
	for len(b) > 0 && !l.found.Load() {
		if l.at == 0 {
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				return
			}
			b = b[end:]
		}
		switch lower := b[0] | 0x20; {
		case b[0] == lengthLine[l.at], l.at > 0 && lower == lengthLine[l.at]:
			l.at++
		case b[0] == '\n':
			l.at = 1
		default:
			l.at = 0
		}
		b = b[1:]
		if l.at == len(lengthLine) {
			l.at = 0
			l.found.Store(true)
		}
	}
}

// SetReadDeadline is net/http's, but for what lameWriter and framedConn do in its stead.
func (c *connection) SetReadDeadline(deadline time.Time) error {
	c.lengths.deadlineSet()
	return c.Conn.SetReadDeadline(deadline)
}
