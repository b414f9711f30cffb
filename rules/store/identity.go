package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// identity is which files the open database consists of.
type identity struct {
	main, log fs.FileInfo // log is nil while there is none
}

func identify(path string) (id identity, err error) {
	if id.main, err = os.Stat(path); err != nil {
		return id, err
	}
	id.log, err = os.Stat(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	return id, err
}

// checkFile reports whether the path still leads to the files that are open. What is written into a file that lost its
// name would be gone.
func (s *Store) checkFile() error {
	if s.conn == nil {
		return errors.New(s.health.Load().Problem)
	}
	now, err := identify(s.path)
	switch {
	case err != nil, !os.SameFile(now.main, s.identity.main):
		return errReplaced
	case s.identity.log == nil:
		s.identity.log = now.log // the first commit has made it
	case now.log == nil, !os.SameFile(now.log, s.identity.log):
		return errReplaced
	}
	return nil
}

// fileNote names, beside the lock, the database that a log may belong to.
const fileNote = "rules.inode"

// noteFile keeps which file is open, for a start after a crash.
func (s *Store) noteFile() error {
	text := strconv.FormatUint(inode(s.identity.main), 10)
	if err := os.WriteFile(filepath.Join(s.options.Dir, fileNote), []byte(text), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("note the file: %w", err)
	}
	return nil
}

func inode(info fs.FileInfo) uint64 { return info.Sys().(*syscall.Stat_t).Ino }

// removeForeignLog moves a write-ahead log aside that was left behind by another file of this name: SQLite would play it
// into this one.
func (s *Store) removeForeignLog() {
	text, err := os.ReadFile(filepath.Join(s.options.Dir, fileNote))
	if err != nil {
		return
	}
	noted, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	info, missing := os.Stat(s.path)
	if err == nil && (missing != nil || inode(info) != noted) {
		moveLogAside(s.path)
	}
}

// moveLogAside keeps a log that belongs to no database any more, over the one that was kept before.
func moveLogAside(path string) {
	_ = os.Rename(path+"-wal", path+"-wal.left-behind") // there may be none
	_ = os.Remove(path + "-shm")                        // an index of the log; there may be none
}
