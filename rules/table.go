package rules

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"unsafe"
)

// table is an immutable hash table from keys to places, in two runs of bytes without pointers: open addressing with
// linear probing, and records one after the other. The zero table is empty.
//
// A slot has eight bytes: where the record begins plus one in the lower 40 bits, a part of the key's hash above them.
// A record is the key's length, the key, the place's length, and the place.
type table struct {
	seed    uint64
	slots   string
	records string
	count   int // of records
}

const (
	slotSize   = 8
	offsetBits = 40
	offsetMask = 1<<offsetBits - 1
)

var errTooManyRules = errors.New("more rules than one process can hold (1 TB)")

// find returns the place with a key, empty if there is none. hash is placeHash of both.
func (t *table) find(hash uint64, host, path string) string {
	n := uint64(len(t.slots) / slotSize)
	if n == 0 {
		return ""
	}
	i, _ := bits.Mul64(hash, n)
	for range n {
		slot := le64(t.slots[i*slotSize:])
		if slot == 0 {
			return ""
		}
		if slot>>offsetBits == hash&(1<<(64-offsetBits)-1) {
			if found, ok := t.at(slot&offsetMask-1, host, path); ok {
				return found
			}
		}
		i = next(i, n)
	}
	return ""
}

// at returns the place of the record that begins there, if it has the key.
func (t *table) at(offset uint64, host, path string) (string, bool) {
	if offset >= uint64(len(t.records)) {
		return "", false
	}
	record := t.records[offset:]
	size := len(host) + len(path)
	if size >= 0x80 || len(record) < size+2 || record[size+1] >= 0x80 {
		return longRecord(record, host, path)
	}
	// Both lengths are one byte each.
	key, rest := record[1:size+1], record[size+2:]
	if int(record[0]) != size || key[:len(host)] != host || key[len(host):] != path {
		return "", false
	}
	if n := int(record[size+1]); n <= len(rest) {
		return rest[:n], true
	}
	return "", false
}

func longRecord(record, host, path string) (string, bool) {
	c := cursor{rest: record}
	key := c.text()
	if len(key) != len(host)+len(path) || key[:len(host)] != host || key[len(host):] != path {
		return "", false
	}
	return c.text(), !c.damaged
}

// all yields every key and its place, in the order in which they were added.
func (t *table) all(yield func(key, place string) bool) {
	c := cursor{rest: t.records}
	for !c.done() {
		key, place := c.text(), c.text()
		if c.damaged || !yield(key, place) {
			return
		}
	}
}

// tableBuilder makes a table. The keys that are added must differ.
type tableBuilder struct {
	seed    uint64
	records []byte
	hashes  []uint64
	starts  []uint64
}

func newTableBuilder(seed uint64, records, bytes int) *tableBuilder {
	return &tableBuilder{seed: seed, records: make([]byte, 0, bytes), hashes: make([]uint64, 0, records), starts: make([]uint64, 0, records)}
}

// add adds a place; hash is that of the key.
func (b *tableBuilder) add(hash uint64, key string, write func([]byte) []byte) {
	b.hashes = append(b.hashes, hash)
	b.starts = append(b.starts, uint64(len(b.records)))
	b.records = appendText(b.records, key)
	b.records = appendSized(b.records, write)
}

// appendSized writes what write appends, with its length before it.
func appendSized(b []byte, write func([]byte) []byte) []byte {
	start := len(b)
	b = write(append(b, 0)) // most lengths need one byte
	size := len(b) - start - 1
	if size < 0x80 {
		b[start] = byte(size)
		return b
	}
	var length [10]byte
	head := appendUint(length[:0], uint64(size))
	b = append(b, head[1:]...) // room
	copy(b[start+len(head):], b[start+1:start+1+size])
	copy(b[start:], head)
	return b
}

func (b *tableBuilder) table() (*table, error) {
	if len(b.records) > offsetMask {
		return nil, errTooManyRules
	}
	n := uint64(len(b.hashes))*4/3 + 1 // fuller ones take long to find that a key is not there
	slots := make([]byte, n*slotSize)
	for k, hash := range b.hashes {
		i, _ := bits.Mul64(hash, n)
		for binary.LittleEndian.Uint64(slots[i*slotSize:]) != 0 {
			i = next(i, n)
		}
		binary.LittleEndian.PutUint64(slots[i*slotSize:], hash<<offsetBits|(b.starts[k]+1))
	}
	return &table{seed: b.seed, slots: asString(slots), records: asString(b.records), count: len(b.hashes)}, nil
}

// asString gives bytes that nobody changes any more as a string, without a copy.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
