package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
)

// Open takes the lock, opens the database (making it if it is missing), brings its schema up to date and loads the
// first view. Nothing keeps running. The error is ErrLocked if another process holds the rules.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err := takeLock(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		options: o, path: filepath.Join(o.Dir, File), lock: lock,
		requests: make(chan *request), ended: make(chan struct{}),
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.path, err), s.closeHalf())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := createFile(s.path); err != nil {
		return err
	}
	var err error
	if s.db, err = sql.Open("sqlite3", dataSource(s.path, "rwc")); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(1)
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return plainError(err)
	}
	if err := s.prepare(ctx); err != nil {
		return plainError(err)
	}
	if s.identity, err = os.Stat(s.path); err != nil {
		return err
	}
	s.health.Store(&Health{})
	s.beat.Store(s.options.now().UnixNano())
	return s.reload(ctx)
}

func (s *Store) closeHalf() error {
	var problems []error
	if s.conn != nil {
		problems = append(problems, s.conn.Close())
	}
	if s.db != nil {
		problems = append(problems, s.db.Close())
	}
	return errors.Join(append(problems, s.lock.Close())...)
}

// createFile makes an empty database that only its owner can read; SQLite gives its other files the same mode. A file
// that is there is left alone, unopened: closing it would drop SQLite's own locks (POSIX locks are per process).
func createFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// dataSource names the database for the driver: durable before acknowledged (synchronous=FULL; the driver's default
// is NORMAL), and a busy wait so short that the owner still comes round.
func dataSource(path, mode string) string {
	query := url.Values{
		"mode": {mode}, "_busy_timeout": {"10"}, "_synchronous": {"FULL"},
		"_cache_size": {"-8000"},
	}
	if mode != "ro" {
		query.Set("_journal_mode", "WAL")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

// prepare sets the connection up and brings the schema up to date. A sqlite3 prompt may hold the write lock, so it
// tries for some seconds.
func (s *Store) prepare(ctx context.Context) error {
	for _, pragma := range []string{
		"PRAGMA trusted_schema=OFF",
		"PRAGMA wal_autocheckpoint=200", // an older sqlite3 program must not be the one to checkpoint: 3.51.2 and older can lose pages
		"PRAGMA journal_size_limit=4194304",
	} {
		if _, err := s.conn.ExecContext(ctx, pragma); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(busyPatience)
	for {
		err := migrate(ctx, s.conn, s.options.log())
		if !isBusy(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
