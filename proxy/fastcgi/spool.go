package fastcgi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

const inMemory = 64 << 10 // of a body, before it goes to a file

var (
	errSpoolLong = errors.New("the request's body is too long")
	errSpoolFull = errors.New("too much of bodies is kept in files")
)

// spool is a body that was read to its end.
type spool struct {
	io.Reader
	length int64
	body   io.ReadCloser
	file   *os.File // nil if it is in memory
	kept   *atomic.Int64
	counts int64 // of kept
}

// readSpool reads a body to its end.
func (t *Transport) readSpool(body io.ReadCloser) (*spool, error) {
	var start bytes.Buffer
	n, err := io.CopyN(&start, body, min(inMemory, t.config.MaxSpool)+1)
	s := &spool{Reader: &start, length: n, body: body, kept: &t.spooled}
	switch {
	case errors.Is(err, io.EOF):
		return s, nil
	case err != nil:
		return nil, err
	case n > t.config.MaxSpool:
		return nil, errSpoolLong
	}
	if err := s.toFile(t, &start); err != nil {
		s.drop()
		return nil, err
	}
	return s, nil
}

// toFile goes on in a file that has no name.
func (s *spool) toFile(t *Transport, start io.Reader) (err error) {
	if s.file, err = os.CreateTemp(t.config.TempDir, "cutover-body-"); err != nil {
		return fmt.Errorf("keep the request's body: %w", err)
	}
	if err := os.Remove(s.file.Name()); err != nil {
		return fmt.Errorf("keep the request's body: %w", err)
	}
	from := io.LimitReader(io.MultiReader(start, s.body), t.config.MaxSpool+1)
	if s.length, err = io.Copy(&budgeted{s, t.config.MaxSpooled}, from); err != nil {
		return err
	}
	if s.length > t.config.MaxSpool {
		return errSpoolLong
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("keep the request's body: %w", err)
	}
	s.Reader = s.file
	return nil
}

// budgeted writes to the file as long as all files together are not too long.
type budgeted struct {
	s    *spool
	most int64
}

func (b *budgeted) Write(p []byte) (int, error) {
	b.s.counts += int64(len(p))
	if b.s.kept.Add(int64(len(p))) > b.most {
		return 0, errSpoolFull
	}
	n, err := b.s.file.Write(p)
	if err != nil {
		err = fmt.Errorf("keep the request's body: %w", err)
	}
	return n, err
}

// Close closes the body as well as what was kept of it.
func (s *spool) Close() error {
	s.drop()
	return s.body.Close()
}

// drop forgets what was kept.
func (s *spool) drop() {
	if s.file != nil {
		_ = s.file.Close() // it has no name, so it is gone
		s.file = nil
	}
	s.kept.Add(-s.counts)
	s.counts = 0
}
