// Package wire is what the clients and the services of the measurement agree on: the bytes of large bodies, checksums, and
// the frames of a WebSocket.
package wire

import (
	"bytes"
	"fmt"
	"hash/crc32"
)

// period is the length after which the pattern repeats: a prime, so that no swap of equal blocks goes unseen.
const period = 65_521

// Pattern is the content of all large bodies.
type Pattern struct{ table []byte }

// NewPattern makes it; all are the same.
func NewPattern() *Pattern {
	table := make([]byte, period)
	state := uint32(2463534242)
	for i := range table { // xorshift
		state ^= state << 13
		state ^= state >> 17
		state ^= state << 5
		table[i] = byte(state)
	}
	return &Pattern{table}
}

// Fill writes the bytes that begin at offset.
func (p *Pattern) Fill(b []byte, offset int64) {
	for len(b) > 0 {
		n := copy(b, p.table[offset%period:])
		b, offset = b[n:], offset+int64(n)
	}
}

// Check reports whether b is what begins at offset.
func (p *Pattern) Check(b []byte, offset int64) bool {
	for len(b) > 0 {
		part := p.table[offset%period:]
		part = part[:min(len(part), len(b))]
		if !bytes.Equal(b[:len(part)], part) {
			return false
		}
		b, offset = b[len(part):], offset+int64(len(part))
	}
	return true
}

// Receipt is how a service says what it got: the count and the checksum of a body.
func Receipt(count int64, sum uint32) string { return fmt.Sprintf("%d %08x", count, sum) }

// ReceiptOf is the receipt for a whole body.
func ReceiptOf(body []byte) string { return Receipt(int64(len(body)), crc32.ChecksumIEEE(body)) }
