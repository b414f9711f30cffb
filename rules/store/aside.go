package store

import (
	"context"
	"database/sql"
	"errors"
)

var errNoDatabase = errors.New("the database cannot be opened just now")

// readAside reads one state of the database through a connection of its own, beside the owner.
func (s *Store) readAside(ctx context.Context, work func(queryer) error) error {
	return s.withReader(ctx, func(conn *sql.Conn) error { return reading(ctx, conn, work) })
}

// withReader hands out a connection of its own that can write nothing into the database.
func (s *Store) withReader(ctx context.Context, work func(*sql.Conn) error) error {
	if s.Health().Problem == errReplaced.Error() {
		return errReplaced // the log beside the file belongs to another one
	}
	reader := s.reader.Load()
	if reader == nil {
		return errNoDatabase
	}
	conn, err := reader.Conn(ctx)
	if err != nil {
		return err
	}
	return errors.Join(work(conn), conn.Close())
}
