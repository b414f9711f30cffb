// Package websocket ends WebSockets between two of their frames (RFC 6455), for one who passes them on and does not look
// into them. It knows frames alone, not messages: extensions and subprotocols pass as they are.
package websocket

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
)

// Codes of Close frames (RFC 6455 §7.4.1, and its registry at IANA).
const (
	GoingAway      = 1001
	ServiceRestart = 1012
)

// Side is whose frames a Writer passes on.
type Side bool

// The sides of a WebSocket. What the client sends is masked (§5.1).
const (
	FromServer Side = false
	FromClient Side = true
)

// Writer passes on the frames of one direction, from the first byte after the handshake. It can put a Close frame between
// two of them, and lets nothing through behind that. Write must not run twice at once; all else may. Use NewWriter.
type Writer struct {
	out  io.Writer
	side Side

	code   atomic.Uint32 // of the Close that takes the place of the source's; 0 lets that pass
	wanted atomic.Bool   // it is to be sent at the next border

	mu    sync.Mutex // held while something is written
	at    position
	ended bool  // our Close was sent: all else is swallowed
	err   error // it could not be

	closed, left signal
}

// signal is a channel that is closed once.
type signal struct {
	channel chan struct{}
	once    sync.Once
}

func (s *signal) give() { s.once.Do(func() { close(s.channel) }) }

// NewWriter returns a Writer that passes a side's frames on to out.
func NewWriter(out io.Writer, side Side) *Writer {
	return &Writer{out: out, side: side, closed: signal{channel: make(chan struct{})}, left: signal{channel: make(chan struct{})}}
}

// Closed is closed when a Close frame was passed on, the source's own or one of ours.
func (w *Writer) Closed() <-chan struct{} { return w.closed.channel }

// Left is closed when the source has begun a Close frame of its own: no message comes from there any more.
func (w *Writer) Left() <-chan struct{} { return w.left.channel }

// Replace has the source's own Close frame, if it comes, be replaced by one with a code.
func (w *Writer) Replace(code uint16) { w.code.Store(uint32(code)) }

// End sends the Close frame of Replace as soon as a frame has ended, unless one was sent before; without Replace it does
// nothing. It does not wait for a Write that is under way: that one sends it when it is done. An error is of the sending.
func (w *Writer) End() error {
	w.wanted.Store(true)
	return w.endIfDue()
}

// endIfDue is called whenever wanted may have been set behind the back of the one who held the lock.
func (w *Writer) endIfDue() error {
	for w.wanted.Load() && w.mu.TryLock() {
		due := w.at.border()
		if due {
			w.end()
		}
		err := w.err
		w.mu.Unlock()
		if !due || err != nil {
			return err // without one, the Write that completes the frame does it
		}
	}
	return nil
}

// end sends our Close, if none was sent; at a border only, with the lock held.
func (w *Writer) end() {
	w.wanted.Store(false)
	code := uint16(w.code.Load())
	if code == 0 || w.ended || isClosed(w.closed.channel) {
		return
	}
	w.ended = true
	if _, w.err = w.out.Write(closeFrame(code, w.side)); w.err == nil {
		w.closed.give()
	}
}

// Write passes bytes on as they are, up to a Close of ours, and swallows the rest.
func (w *Writer) Write(b []byte) (int, error) {
	n, err := w.writeLocked(b)
	if err == nil {
		err = w.endIfDue()
	}
	return n, err
}

func (w *Writer) writeLocked(b []byte) (written int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for seen := 0; seen < len(b); {
		if w.endsBefore(b[seen]) {
			n, err := w.pass(b[written:seen])
			if written += n; err != nil {
				return written, err
			}
			if w.end(); w.err != nil {
				return written, w.err
			}
		}
		seen += w.at.follow(b[seen:])
	}
	n, err := w.pass(b[written:])
	if err == nil && w.at.border() && isClosed(w.left.channel) && !w.ended {
		w.closed.give() // the source's own, whole
	}
	return written + n, err
}

// endsBefore notes the begin of a Close frame, and reports whether ours is due before this byte.
func (w *Writer) endsBefore(next byte) bool {
	if !w.at.border() {
		return false
	}
	if next&opcodeBits == opClose {
		w.left.give()
		return w.code.Load() != 0 && !w.ended
	}
	return w.wanted.Load() && !w.ended
}

func (w *Writer) pass(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.ended || len(b) == 0 {
		return len(b), nil
	}
	return w.out.Write(b)
}

func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// closeFrame returns a Close frame with a code and no reason.
func closeFrame(code uint16, side Side) []byte {
	frame := binary.BigEndian.AppendUint16([]byte{0x80 | opClose, 2}, code)
	if side == FromServer {
		return frame
	}
	var mask [maskSize]byte
	_, _ = rand.Read(mask[:]) // never fails: crypto/rand ends the program instead
	return []byte{frame[0], maskedBit | frame[1], mask[0], mask[1], mask[2], mask[3], frame[2] ^ mask[0], frame[3] ^ mask[1]}
}
