package fastcgi

import "encoding/binary"

// Records are those of the FastCGI specification, 1996, §3.3: version, type, request, lengths, then contents and padding.
const (
	version      = 1
	headerLength = 8
	maxContent   = 1<<16 - 1

	typeBegin  = 1
	typeEnd    = 3
	typeParams = 4
	typeStdin  = 5
	typeStdout = 6
	typeStderr = 7

	requestID     = 1 // the only one on its connection: hardly an application can do several at once
	roleResponder = 1
	flagKeep      = 1
)

func appendHeader(out []byte, kind byte, length int) []byte {
	return append(out, version, kind, 0, requestID, byte(length>>8), byte(length), 0, 0)
}

func appendBegin(out []byte, keep bool) []byte {
	var flags byte
	if keep {
		flags = flagKeep
	}
	return append(appendHeader(out, typeBegin, 8), 0, roleResponder, flags, 0, 0, 0, 0, 0)
}

// pairs appends name-value pairs to out, in FCGI_PARAMS records. No pair stands in two records: php-fpm cannot read those.
type pairs struct {
	out     []byte
	named   map[string]bool // names that are left out
	record  int             // where the record begins that pairs are appended to; 0 means that there is none
	tooLong bool            // a pair is longer than a record can be
}

// add appends a pair, its value in parts.
func (p *pairs) add(name string, parts ...string) {
	if p.named[name] {
		return
	}
	length := 0
	for _, part := range parts {
		length += len(part)
	}
	if !p.begin(len(name), length) {
		return
	}
	p.out = append(p.out, name...)
	for _, part := range parts {
		p.out = append(p.out, part...)
	}
}

// begin appends the lengths of a pair, in a record that has room for it. It returns false if no record can have it.
func (p *pairs) begin(name, value int) bool {
	size := lengthSize(name) + lengthSize(value) + name + value
	if size > maxContent {
		p.tooLong = true
		return false
	}
	p.open(size)
	p.out = appendLength(appendLength(p.out, name), value)
	return true
}

// open makes sure of a record with room for size bytes.
func (p *pairs) open(size int) {
	if p.record > 0 && len(p.out)-p.record-headerLength+size <= maxContent {
		return
	}
	p.close()
	p.record = len(p.out)
	p.out = appendHeader(p.out, typeParams, 0)
}

// close ends the record that pairs are appended to.
func (p *pairs) close() {
	if p.record > 0 {
		binary.BigEndian.PutUint16(p.out[p.record+4:], uint16(len(p.out)-p.record-headerLength)) //nolint:gosec // open sees to it
	}
	p.record = 0
}

func lengthSize(length int) int {
	if length < 0x80 {
		return 1
	}
	return 4
}

func appendLength(out []byte, length int) []byte {
	if length < 0x80 {
		return append(out, byte(length))
	}
	return binary.BigEndian.AppendUint32(out, uint32(length)|1<<31) //nolint:gosec // at most maxContent
}
