package frontend

import "encoding/binary"

// More of HTTP/2's frames, flags and numbers (RFC 9113 §3.4, §6, §7).
const (
	prefaceLength    = 24 // bytes that a client sends before its first frame
	frameData        = 0x0
	frameResetStream = 0x3
	frameSettings    = 0x4
	framePing        = 0x6
	flagEndStream    = 0x1
	flagPadded       = 0x8
	noError          = 0x0
	enhanceYourCalm  = 0xb
)

// frameHead is the header of a frame.
type frameHead struct {
	length      int
	kind, flags byte
	stream      uint32
}

// empty reports whether the frame is DATA without any data; padding is the first byte of its payload.
func (h frameHead) empty(padding byte) bool {
	if h.kind != frameData || h.flags&flagEndStream != 0 {
		return false
	}
	return h.length == 0 || h.flags&flagPadded != 0 && h.length == 1+int(padding)
}

// arrivals is a place in the bytes that an HTTP/2 client sends. Use newArrivals.
type arrivals struct {
	preface int // bytes of it that are still to come
	header  [frameHeader]byte
	have    int // bytes of the header that were seen
	left    int // bytes of the payload that are still to come
	head    frameHead
	held    bool // the frame is DATA with padding, whose length is the next byte
}

func newArrivals() arrivals { return arrivals{preface: prefaceLength} }

// follow goes on by some bytes, and calls seen with the head of each frame in them; with DATA that has padding it waits for
// the payload's first byte, which tells how much.
func (a *arrivals) follow(b []byte, seen func(head frameHead, padding byte)) {
	skipped := min(a.preface, len(b))
	a.preface -= skipped
	for b = b[skipped:]; len(b) > 0; {
		if a.left > 0 {
			if a.held {
				a.held = false
				seen(a.head, b[0])
			}
			n := min(a.left, len(b))
			a.left -= n
			b = b[n:]
			continue
		}
		n := copy(a.header[a.have:], b)
		a.have += n
		b = b[n:]
		if a.have == frameHeader {
			a.enter(seen)
		}
	}
}

// enter reads a complete frame header.
func (a *arrivals) enter(seen func(head frameHead, padding byte)) {
	a.have = 0
	a.head = frameHead{
		length: int(a.header[0])<<16 | int(a.header[1])<<8 | int(a.header[2]),
		kind:   a.header[3], flags: a.header[4],
		stream: binary.BigEndian.Uint32(a.header[5:]) & (1<<31 - 1),
	}
	a.left = a.head.length
	a.held = a.head.kind == frameData && a.head.flags&flagPadded != 0 && a.left > 0
	if !a.held {
		seen(a.head, 0)
	}
}
