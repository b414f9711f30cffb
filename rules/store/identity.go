package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
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

// fileNote names, beside the lock, the database and the log that belong together.
const fileNote = "rules.inode"

// noteFile keeps which files are open, for a start after a crash.
func (s *Store) noteFile() error {
	text := fileID(s.path) + " " + fileID(s.path+"-wal") + "\n"
	if err := os.WriteFile(filepath.Join(s.options.Dir, fileNote), []byte(text), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("note the file: %w", err)
	}
	return nil
}

// fileID tells a file from every other: numbers of inodes are used again, so it has the time of birth too where the
// file system knows it. It is "-" where there is no file.
func fileID(path string) string {
	var info unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &info); err != nil {
		return "-"
	}
	return fmt.Sprintf("%d.%d.%d", info.Ino, info.Btime.Sec, info.Btime.Nsec)
}

// removeForeignLog moves a write-ahead log aside that was left behind by another file of this name: SQLite would play it
// into this one. A log that came together with the database, as in a copy of the whole folder, is its own and stays.
func (s *Store) removeForeignLog() {
	text, err := os.ReadFile(filepath.Join(s.options.Dir, fileNote))
	if err != nil {
		return
	}
	var noted, log string
	if n, _ := fmt.Sscan(string(text), &noted, &log); n == 2 && fileID(s.path) != noted && fileID(s.path+"-wal") == log && log != "-" {
		s.moveLogAside()
	}
}

// moveLogAside keeps a log that belongs to no database any more, over the one that was kept before.
func (s *Store) moveLogAside() {
	kept := s.path + "-wal.left-behind"
	err := os.Rename(s.path+"-wal", kept)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	_ = os.Remove(s.path + "-shm") // an index of the log; there may be none
	s.options.log().Warn("rules.db was replaced; the log that belongs to the old one is moved aside", slog.String("to", kept), slog.Any("error", err))
}
