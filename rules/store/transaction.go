package store

import (
	"context"
	"database/sql"
	"errors"
)

// queryer is what reads and writes: the owner's connection, inside a transaction or not.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// errRollBack ends a transaction without keeping it, and is no failure.
var errRollBack = errors.New("roll back")

// reading runs work in a read transaction: it sees one state of the database, and needs no write lock. The driver's
// own transactions would all take that lock.
func reading(ctx context.Context, conn *sql.Conn, work func(queryer) error) error {
	return transact(ctx, conn, "BEGIN DEFERRED", func(q queryer) error {
		if err := work(q); err != nil {
			return err
		}
		return errRollBack
	})
}

// writing runs work with the write lock held, and commits unless it fails. isBusy(err) means that the lock is
// somebody else's, and that work was not called.
func writing(ctx context.Context, conn *sql.Conn, work func(queryer) error) error {
	return transact(ctx, conn, "BEGIN IMMEDIATE", work)
}

// transact does not end with ctx once it has begun: a half-done transaction would stay open on the connection.
func transact(ctx context.Context, conn *sql.Conn, begin string, work func(queryer) error) error {
	ctx = context.WithoutCancel(ctx)
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		return err
	}
	err := work(conn)
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	if err != nil {
		// SQLite may have rolled back by itself (disk full), and then this fails; either way it is rolled back.
		_, _ = conn.ExecContext(ctx, "ROLLBACK")
	}
	if errors.Is(err, errRollBack) {
		return nil
	}
	return err
}
