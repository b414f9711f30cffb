package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// backupFolder is where a backup is made, beside the database. What a crash left in it is removed by the next one.
const backupFolder = "backup.tmp"

// Backup makes a copy of the database as it stands, while everything runs, and returns it as a file that has no name any
// more: it is gone when it is closed.
func (s *Store) Backup(ctx context.Context) (*os.File, error) {
	select {
	case s.backup <- struct{}{}: // one at a time
		defer func() { <-s.backup }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	file, err := s.copyDatabase(ctx)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", plainError(err))
	}
	return file, nil
}

func (s *Store) copyDatabase(ctx context.Context) (file *os.File, err error) {
	folder := filepath.Join(s.options.Dir, backupFolder)
	if err := errors.Join(os.RemoveAll(folder), os.Mkdir(folder, 0o700)); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	path := filepath.Join(folder, File)
	if err := createFile(path); err != nil {
		return nil, err
	}
	// VACUUM sees one state by itself, and works in no transaction.
	err = s.withReader(ctx, func(conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "VACUUM INTO ?", path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.Open(path) // no database of this process: closing it drops no lock
}

// CheckBackup looks whether a file is a whole database of ours, one that Backup has made. It writes nothing.
func CheckBackup(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite3", dataSource(path, "ro")+"&immutable=1")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // it was only read
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var verdict string
	if err := conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return errors.New("it is damaged: " + verdict)
	}
	generation, err := recognise(ctx, conn)
	if err == nil && generation == 0 {
		err = errors.New("it is empty")
	}
	return err
}
