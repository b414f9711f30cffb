package fastcgi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

var (
	// ErrBodyTooLong says that a body whose length nobody said is longer than a Spool keeps.
	ErrBodyTooLong = errors.New("the request's body says no length and is longer than what is kept of one")
	// ErrNoRoom says that a body whose length nobody said finds no room in files.
	ErrNoRoom = errors.New("there is no room to keep the request's body")

	errShortBody = errors.New("the request's body is shorter than its length")
)

const inMemory = 64 << 10 // of a body, before it goes to a file, and at a time

// Spool reads bodies of requests before an application is asked, which else would wait for visitors who send slowly. The zero
// value is ready; its fields must not change once it is used. Any number of goroutines may use it at once.
type Spool struct {
	Dir   string // for files, which have no name; "" means the system's
	Most  int64  // of one body; 0 means 64 MiB
	Total int64  // of all bodies in files at a time; 0 means 1 GiB

	inFiles atomic.Int64
}

// Kept is a body of which all was read, or as much as a Spool keeps.
type Kept struct {
	Length int64 // of the whole body

	spool  *Spool
	memory []byte    // the beginning
	file   *os.File  // what follows; nil if nothing does
	inFile int64     // bytes
	rest   io.Reader // what follows then, and was not kept; nil for nothing
	closed atomic.Bool
}

// Keep reads a body, of length bytes or to its end if length is negative. One that says its length is kept as far as there is
// room: the rest is read by whoever reads what Open returns. Errors: ErrBodyTooLong, ErrNoRoom, or what reading met.
func (s *Spool) Keep(body io.Reader, length int64) (*Kept, error) {
	size := int64(inMemory)
	if length >= 0 {
		size, body = min(length, inMemory), io.LimitReader(body, length)
	}
	k := &Kept{Length: length, spool: s, memory: make([]byte, size)}
	n, err := fill(body, k.memory)
	k.memory = k.memory[:n]
	if err == nil && length != int64(n) {
		err = k.toFile(body)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		k.Close()
		return nil, err
	}
	switch kept := int64(n) + k.inFile; {
	case length < 0:
		k.Length = kept
	case kept < length && k.rest == nil:
		k.Close()
		return nil, fmt.Errorf("%w: %w", errShortBody, io.ErrUnexpectedEOF)
	}
	return k, nil
}

// fill reads until a buffer is full. What it met otherwise is returned as it is.
func fill(from io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var read int
		read, err = from.Read(buffer[n:])
		n += read
	}
	if n == len(buffer) {
		err = nil
	}
	return n, err
}

// toFile reads on into a file, to the end or to where there is no more room.
func (k *Kept) toFile(body io.Reader) error {
	buffer := make([]byte, inMemory)
	for {
		n, err := fill(body, buffer)
		if full := k.write(buffer[:n]); full != nil {
			if k.Length < 0 {
				return full
			}
			k.rest = io.MultiReader(bytes.NewReader(buffer[:n]), body)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// write appends to the file.
func (k *Kept) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	size := int64(len(p))
	if int64(len(k.memory))+k.inFile+size > orDefault(k.spool.Most, 64<<20) {
		return ErrBodyTooLong
	}
	if k.spool.inFiles.Add(size) > orDefault(k.spool.Total, 1<<30) {
		k.spool.inFiles.Add(-size)
		return ErrNoRoom
	}
	err := k.open()
	if err == nil {
		_, err = k.file.WriteAt(p, k.inFile)
	}
	if err != nil {
		k.spool.inFiles.Add(-size)
		return fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	k.inFile += size
	return nil
}

// open makes the file, and takes its name away: so nothing of it is left whatever ends this process.
func (k *Kept) open() (err error) {
	if k.file != nil {
		return nil
	}
	if k.file, err = os.CreateTemp(k.spool.Dir, "cutover-body-"); err != nil {
		return err
	}
	return os.Remove(k.file.Name())
}

// IsWhole reports whether all of the body is kept: then Open may be called again, and each reader reads all of it.
func (k *Kept) IsWhole() bool { return k.rest == nil }

// Open returns a reader of the whole body. To close it does nothing: Close is for all readers.
func (k *Kept) Open() io.ReadCloser {
	if k.file == nil && k.rest == nil {
		return io.NopCloser(bytes.NewReader(k.memory))
	}
	parts := []io.Reader{bytes.NewReader(k.memory)}
	if k.file != nil {
		parts = append(parts, io.NewSectionReader(k.file, 0, k.inFile))
	}
	if k.rest != nil {
		parts = append(parts, k.rest)
	}
	return io.NopCloser(io.MultiReader(parts...))
}

// Close forgets what is in a file. Who reads on gets an error.
func (k *Kept) Close() {
	if k.closed.Swap(true) || k.file == nil {
		return
	}
	_ = k.file.Close() // it has no name, so it is gone
	k.spool.inFiles.Add(-k.inFile)
}
