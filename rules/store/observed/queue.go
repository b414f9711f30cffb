package observed

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// The queue of names that are to have a certificate. A name that is done, or never will be, stays for a while, so that it
// can be counted.
const queueSchema = `
CREATE TABLE IF NOT EXISTS queue(
  name     TEXT PRIMARY KEY NOT NULL,
  batch    INTEGER NOT NULL,
  finished INTEGER NOT NULL DEFAULT 0,
  failure  TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS queue_of_batch ON queue(batch);
`

const (
	maxQueue     = 200_000 // names
	keepFinished = 30 * 24 * time.Hour
)

// ErrQueueFull says that the queue holds as many names as it may.
var ErrQueueFull = fmt.Errorf("the queue holds %d names, and may have no more", maxQueue)

// Add puts names into the queue, all or none, also those that were in it before.
func (d *DB) Add(ctx context.Context, batch int64, names []string) (err error) {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if rollback := tx.Rollback(); !errors.Is(rollback, sql.ErrTxDone) {
			err = errors.Join(err, rollback)
		}
	}()
	if _, err := tx.ExecContext(ctx, "DELETE FROM queue WHERE finished>0 AND finished<?", time.Now().Add(-keepFinished).UnixMilli()); err != nil {
		return err
	}
	for _, name := range names {
		_, err := tx.ExecContext(ctx, `INSERT INTO queue(name, batch) VALUES(?,?)
			ON CONFLICT(name) DO UPDATE SET batch=excluded.batch, finished=0, failure=''`, name, batch)
		if err != nil {
			return err
		}
	}
	var count int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM queue").Scan(&count); err != nil {
		return err
	}
	if count > maxQueue {
		return ErrQueueFull
	}
	return tx.Commit()
}

// Pending lists the names of a batch that are still to be done; those of all batches, the oldest first, for 0.
func (d *DB) Pending(ctx context.Context, batch int64) ([]string, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT name FROM queue WHERE finished=0 AND (?1=0 OR batch=?1) ORDER BY batch, name", batch)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// Queued reports whether a name is still to be done.
func (d *DB) Queued(ctx context.Context, name string) (queued bool, err error) {
	err = d.db.QueryRowContext(ctx, "SELECT EXISTS(SELECT 1 FROM queue WHERE name=? AND finished=0)", name).Scan(&queued)
	return queued, err
}

// Remove takes names out that are still to be done, all or none, and returns which of them were not there.
func (d *DB) Remove(ctx context.Context, names []string) (missing []string, err error) {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() {
		if rollback := tx.Rollback(); !errors.Is(rollback, sql.ErrTxDone) {
			err = errors.Join(err, rollback)
		}
	}()
	for _, name := range names {
		result, err := tx.ExecContext(ctx, "DELETE FROM queue WHERE name=? AND finished=0", name)
		if err != nil {
			return nil, err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			missing = append(missing, name)
		}
	}
	return missing, tx.Commit()
}

// RemoveAll takes out all that are still to be done, and counts them.
func (d *DB) RemoveAll(ctx context.Context) (int, error) {
	result, err := d.db.ExecContext(ctx, "DELETE FROM queue WHERE finished=0")
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// Finish notes that a name is done, or why it never will be.
func (d *DB) Finish(ctx context.Context, name, failure string) error {
	_, err := d.db.ExecContext(ctx, "UPDATE queue SET finished=?, failure=? WHERE name=?", time.Now().UnixMilli(), bounded(failure), name)
	return err
}

// Finished counts the names of a batch that are done, and those that never will be; of all batches for 0.
func (d *DB) Finished(ctx context.Context, batch int64) (done, failed int, err error) {
	err = d.db.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE failure=''), count(*) FILTER (WHERE failure<>'')
		FROM queue WHERE finished>0 AND (?1=0 OR batch=?1)`, batch).Scan(&done, &failed)
	return done, failed, err
}
