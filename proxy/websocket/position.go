package websocket

import "encoding/binary"

// Frames of RFC 6455 §5.2, as far as a position tells them apart.
const (
	opcodeBits = 0x0f
	opClose    = 0x8
	maskedBit  = 0x80
	lengthBits = 0x7f
	length16   = 126 // the length follows in 2 bytes
	length64   = 127 // in 8
	maskSize   = 4
	longest    = 2 + 8 + maskSize
)

// position is a place in the bytes of one direction of a WebSocket. The zero value is the begin, after the handshake.
type position struct {
	header [longest]byte
	have   int    // bytes of the header that were seen
	left   uint64 // bytes of the payload that are still to come
}

// border reports whether a frame has ended here and the next has not begun. A control frame may be put here, even between
// the fragments of a message (§5.4).
func (p *position) border() bool { return p.have == 0 && p.left == 0 }

// follow goes on by a piece of one frame, from the start of b, and returns how many bytes that is: at least one, if b has
// any. Nothing of the next frame is in it.
func (p *position) follow(b []byte) int {
	if p.left > 0 {
		n := int(min(p.left, uint64(len(b))))
		p.left -= uint64(n)
		return n
	}
	n := 0
	for n < len(b) {
		p.header[p.have] = b[n]
		p.have, n = p.have+1, n+1
		if p.have >= 2 && p.have == p.headerSize() {
			p.left, p.have = p.length(), 0
			break
		}
	}
	return n
}

// headerSize returns how long the header is whose first two bytes were seen.
func (p *position) headerSize() int {
	size := 2
	switch p.header[1] & lengthBits {
	case length16:
		size += 2
	case length64:
		size += 8
	}
	if p.header[1]&maskedBit != 0 {
		size += maskSize
	}
	return size
}

// length returns the payload's length from a whole header.
func (p *position) length() uint64 {
	switch length := p.header[1] & lengthBits; length {
	case length16:
		return uint64(binary.BigEndian.Uint16(p.header[2:]))
	case length64:
		return binary.BigEndian.Uint64(p.header[2:])
	default:
		return uint64(length)
	}
}
