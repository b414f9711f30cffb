package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"cutover/rules"
)

// snapshotFile holds the rules as they were in force at some change of the journal, ready for use: a start reads it and
// follows the journal from there. It also serves where the database cannot be read, and has the last good versions of
// rows that are bad. It is written by the owner alone and is no place to edit: the database decides.
const snapshotFile = "rules.snapshot"

// A snapshot file is a header, a checksum (CRC-32C) of every chunk of what follows, and what rules.Freeze made.
type snapshotHeader struct {
	Magic                                 [8]byte
	Seq, Nonce, At                        int64 // the mark; At in Unix milliseconds
	HeadSize, SlotsSize, RecordsSize      uint64
	ChecksumOfChecksums, ChecksumOfHeader uint32 // the latter is of the header with zero in its place
}

const (
	snapshotMagic      = "cutover\x01"
	snapshotHeaderSize = 64
	snapshotChunk      = 1 << 20
	maxSnapshot        = 1 << 40
)

func (h *snapshotHeader) bodySize() uint64 { return h.HeadSize + h.SlotsSize + h.RecordsSize }

func (h *snapshotHeader) chunks() int { return int((h.bodySize() + snapshotChunk - 1) / snapshotChunk) }

// encode returns the header with its own checksum set.
func (h snapshotHeader) encode() []byte {
	h.ChecksumOfHeader = 0
	h.ChecksumOfHeader = crc32.Checksum(h.bytes(), castagnoli())
	return h.bytes()
}

func (h *snapshotHeader) bytes() []byte {
	b, _ := binary.Append(nil, binary.LittleEndian, h) // its size is fixed
	return b
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

var errSnapshot = errors.New("the snapshot is damaged")

func decodeSnapshotHeader(b []byte) (h snapshotHeader, err error) {
	if _, err := binary.Decode(b, binary.LittleEndian, &h); err != nil {
		return h, errSnapshot
	}
	tooLarge := h.HeadSize > maxSnapshot || h.SlotsSize > maxSnapshot || h.RecordsSize > maxSnapshot
	if string(h.Magic[:]) != snapshotMagic || tooLarge || !bytes.Equal(h.encode(), b) {
		return h, errSnapshot
	}
	return h, nil
}

// saveSnapshot writes a view and the change at which it was made: whole, or not at all.
func saveSnapshot(dir string, l loaded) error {
	frozen, err := l.view.Freeze()
	if err != nil {
		return err
	}
	return writeSnapshot(dir, l.mark, frozen)
}

func writeSnapshot(dir string, at mark, frozen rules.Frozen) error {
	parts := [][]byte{frozen.Head, bytesOf(frozen.Slots), bytesOf(frozen.Records)}
	sums := chunkSums(parts)
	header := snapshotHeader{
		Magic: [8]byte([]byte(snapshotMagic)), Seq: at.seq, Nonce: at.nonce, At: at.at.UnixMilli(),
		HeadSize: uint64(len(parts[0])), SlotsSize: uint64(len(parts[1])), RecordsSize: uint64(len(parts[2])),
		ChecksumOfChecksums: crc32.Checksum(sums, castagnoli()),
	}
	return replaceFile(filepath.Join(dir, snapshotFile), func(w io.Writer) error {
		for _, part := range append([][]byte{header.encode(), sums}, parts...) {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
}

// bytesOf gives a string as bytes, without a copy; they must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// chunkSums returns the checksums of the chunks of all parts, one after the other.
func chunkSums(parts [][]byte) []byte {
	var sums []byte
	var sum uint32
	room := snapshotChunk
	for _, part := range parts {
		for len(part) > 0 {
			n := min(room, len(part))
			sum = crc32.Update(sum, castagnoli(), part[:n])
			part, room = part[n:], room-n
			if room == 0 {
				sums, sum, room = binary.LittleEndian.AppendUint32(sums, sum), 0, snapshotChunk
			}
		}
	}
	if room < snapshotChunk {
		sums = binary.LittleEndian.AppendUint32(sums, sum)
	}
	return sums
}

// readSnapshot reads what saveSnapshot wrote. sound is as rules.Thaw returns it.
func readSnapshot(dir string) (l loaded, sound bool, err error) {
	file, err := os.Open(filepath.Join(dir, snapshotFile))
	if err != nil {
		return loaded{}, false, err
	}
	defer func() { _ = file.Close() }()
	header, body, err := readSnapshotBody(file)
	if err != nil {
		return loaded{}, false, fmt.Errorf("%s: %w", file.Name(), err)
	}
	head, rest := body[:header.HeadSize], body[header.HeadSize:]
	view, sound, err := rules.Thaw(rules.Frozen{
		Head: head, Slots: unsafe.String(unsafe.SliceData(rest), header.SlotsSize),
		Records: unsafe.String(unsafe.SliceData(rest[header.SlotsSize:]), header.RecordsSize),
	})
	return loaded{view, mark{header.Seq, header.Nonce, time.UnixMilli(header.At)}}, sound, err
}

// readSnapshotBody reads into memory of our own: a mapped file would end the process with SIGBUS if somebody shortened
// it, and is hardly faster (docs/rules-at-scale.md).
func readSnapshotBody(file *os.File) (h snapshotHeader, body []byte, err error) {
	first := make([]byte, snapshotHeaderSize)
	if _, err := file.ReadAt(first, 0); err != nil {
		return h, nil, errSnapshot
	}
	if h, err = decodeSnapshotHeader(first); err != nil {
		return h, nil, err
	}
	start := snapshotHeaderSize + 4*uint64(h.chunks())
	info, err := file.Stat()
	if err != nil || uint64(info.Size()) != start+h.bodySize() {
		return h, nil, errors.Join(err, errSnapshot)
	}
	sums := make([]byte, start-snapshotHeaderSize)
	if _, err := file.ReadAt(sums, snapshotHeaderSize); err != nil || crc32.Checksum(sums, castagnoli()) != h.ChecksumOfChecksums {
		return h, nil, errors.Join(err, errSnapshot)
	}
	body = freshMemory(h.bodySize())
	return h, body, readChunks(file, int64(start), body, sums)
}

// freshMemory returns memory that the kernel is asked to give in huge pages: half of the time to read a large snapshot
// would go into faults of small ones.
func freshMemory(size uint64) []byte {
	memory := make([]byte, size)
	const page = 4096
	start := uintptr(unsafe.Pointer(unsafe.SliceData(memory)))
	skip := int(-start & (page - 1))
	if whole := (len(memory) - skip) &^ (page - 1); whole > 0 {
		_ = unix.Madvise(memory[skip:skip+whole], unix.MADV_HUGEPAGE) // a help only
	}
	return memory
}

// readChunks reads and checks all chunks, on every processor.
func readChunks(file *os.File, start int64, body, sums []byte) error {
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i := 0; i*snapshotChunk < len(body); i++ {
		group.Go(func() error {
			chunk := body[i*snapshotChunk : min(len(body), (i+1)*snapshotChunk)]
			if _, err := file.ReadAt(chunk, start+int64(i)*snapshotChunk); err != nil {
				return errors.Join(err, errSnapshot)
			}
			if crc32.Checksum(chunk, castagnoli()) != binary.LittleEndian.Uint32(sums[4*i:]) {
				return errSnapshot
			}
			return nil
		})
	}
	return group.Wait()
}

// replaceFile writes a file whole or not at all, a power failure included. Only the owner of the lock writes here, so
// that the name on the way is its own.
func replaceFile(path string, write func(io.Writer) error) error {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
