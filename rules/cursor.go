package rules

import (
	"encoding/binary"
	"math"
)

// cursor reads what the append functions of encoding/binary wrote. Past the end, or in bytes that make no sense, it
// reads zeros and notes that it did: damaged bytes never panic.
type cursor struct {
	rest    string
	damaged bool
}

func (c *cursor) done() bool { return len(c.rest) == 0 || c.damaged }

func (c *cursor) byte() byte {
	if len(c.rest) == 0 {
		c.damaged = true
		return 0
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return b
}

func (c *cursor) uint() uint64 {
	if s := c.rest; len(s) > 0 && s[0] < 0x80 { // most are small
		c.rest = s[1:]
		return uint64(s[0])
	}
	return c.longUint()
}

func (c *cursor) longUint() uint64 {
	if s := c.rest; len(s) > 3 && s[2] < 0x80 { // as most ids are
		if s[1] < 0x80 {
			c.rest = s[2:]
			return uint64(s[0]&0x7f) | uint64(s[1])<<7
		}
		c.rest = s[3:]
		return uint64(s[0]&0x7f) | uint64(s[1]&0x7f)<<7 | uint64(s[2])<<14
	}
	var v uint64
	for i := 0; i < len(c.rest) && i < binary.MaxVarintLen64; i++ {
		v |= uint64(c.rest[i]&0x7f) << (7 * i)
		if c.rest[i] < 0x80 {
			c.rest = c.rest[i+1:]
			return v
		}
	}
	c.damaged, c.rest = true, ""
	return 0
}

// int reads what appendInt wrote.
func (c *cursor) int() int64 {
	v := c.uint()
	return int64(v>>1) ^ -int64(v&1)
}

func (c *cursor) float() float64 {
	if len(c.rest) < 8 {
		c.damaged, c.rest = true, ""
		return 0
	}
	v := math.Float64frombits(le64(c.rest))
	c.rest = c.rest[8:]
	return v
}

// text reads what appendText wrote; it shares the memory of what is read.
func (c *cursor) text() string {
	n := c.uint()
	if n > uint64(len(c.rest)) {
		c.damaged, c.rest = true, ""
		return ""
	}
	s := c.rest[:n]
	c.rest = c.rest[n:]
	return s
}

func appendInt(b []byte, v int64) []byte { return binary.AppendVarint(b, v) }

func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendText(b []byte, s string) []byte { return append(appendUint(b, uint64(len(s))), s...) }

func appendFloat(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}
