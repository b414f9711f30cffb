package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
)

// Health says how the database is. The rules that were good last serve on whatever it says.
type Health struct {
	ReadOnly bool      `json:"read_only"` // edits are refused
	Problem  string    `json:"problem"`   // in plain words with the next step; empty when all is well
	Since    time.Time `json:"since,omitzero"`
	WALBytes int64     `json:"wal_bytes"` // size of the write-ahead log
}

// Health says how the database is.
func (s *Store) Health() Health {
	health := *s.health.Load()
	if late := s.late(); late > ownerPatience && health.Problem == "" {
		health.Problem = fmt.Sprintf("the owner of the rules has been busy for %v, so edits wait: does the disk still answer? (dmesg, iostat)", late.Round(time.Second))
		health.Since = s.options.now().Add(-late)
	}
	return health
}

// ownerPatience is how long one round of the owner may take.
const ownerPatience = 10 * time.Second

// late returns for how long the owner has not come round.
func (s *Store) late() time.Duration {
	return s.options.now().Sub(time.Unix(0, s.beat.Load()))
}

// noteProblem makes a problem known, once; nil says that all is well.
func (s *Store) noteProblem(err error, readOnly bool) {
	last := s.health.Load()
	next := Health{WALBytes: last.WALBytes}
	if err != nil {
		next.Problem, next.ReadOnly, next.Since = err.Error(), readOnly, last.Since
	}
	if next.Problem == last.Problem && next.ReadOnly == last.ReadOnly {
		return
	}
	switch {
	case err == nil:
		s.options.log().Info("the database is well again")
	case next.Problem != last.Problem:
		next.Since = s.options.now()
		s.options.log().Error("the database has a problem; the last good rules go on serving", slog.Any("error", err))
	}
	s.health.Store(&next)
}

var errReplaced = errors.New("rules.db was replaced or removed under the running process, so edits are refused and none is seen: " +
	"put the old file back, or restart cutover to take the new one; next time use .restore at the sqlite3 prompt instead of mv or cp")

// checkpoint moves the write-ahead log into the database, as far as readers allow, and notes its size.
func (s *Store) checkpoint(ctx context.Context) {
	var busy, pages, moved int
	err := s.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &pages, &moved)
	if err != nil {
		s.options.log().Debug("checkpoint", slog.Any("error", err))
	}
	next := *s.health.Load()
	next.WALBytes = 0
	if info, err := os.Stat(s.path + "-wal"); err == nil {
		next.WALBytes = info.Size()
	}
	s.health.Store(&next)
}

func isBusy(err error) bool {
	var problem sqlite3.Error
	return errors.As(err, &problem) && (problem.Code == sqlite3.ErrBusy || problem.Code == sqlite3.ErrLocked)
}

// plainError adds the next step to what SQLite says of a file that it cannot use.
func plainError(err error) error {
	var problem sqlite3.Error
	if !errors.As(err, &problem) || errors.As(err, new(*explained)) {
		return err
	}
	return &explained{explain(problem, err)}
}

// explained is an error that plainError has been at.
type explained struct{ error }

func (e *explained) Unwrap() error { return e.error }

func explain(problem sqlite3.Error, err error) error {
	switch problem.Code {
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB:
		return fmt.Errorf("the database is damaged: restore a backup with .restore at the sqlite3 prompt: %w", err)
	case sqlite3.ErrFull:
		return fmt.Errorf("the disk is full: free some space: %w", err)
	case sqlite3.ErrIoErr:
		return fmt.Errorf("the disk cannot be read or written: %w", err)
	case sqlite3.ErrReadonly, sqlite3.ErrPerm, sqlite3.ErrCantOpen:
		return fmt.Errorf("the database cannot be opened for writing: check mode and owner of the state directory: %w", err)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return fmt.Errorf("another program holds the database's write lock: end its transaction: %w", err)
	}
	if strings.Contains(problem.Error(), "no such table") || strings.Contains(problem.Error(), "no such column") {
		return fmt.Errorf("a table of the database is gone: restore a backup with .restore at the sqlite3 prompt: %w", err)
	}
	return err
}
