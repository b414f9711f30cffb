package observed

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// The column until says when a row has nothing to say any more.
const budgetSchema = `
CREATE TABLE IF NOT EXISTS uses(
  id    INTEGER PRIMARY KEY,
  key   TEXT NOT NULL,
  at    INTEGER NOT NULL,
  until INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS uses_of_key ON uses(key, at);
CREATE INDEX IF NOT EXISTS uses_until ON uses(until);
CREATE TABLE IF NOT EXISTS holds(
  key    TEXT PRIMARY KEY NOT NULL,
  until  INTEGER NOT NULL,
  reason TEXT NOT NULL
) WITHOUT ROWID;
`

const (
	maxUses  = 200_000 // the oldest go first
	maxHolds = 10_000  // those that end first go first
	// clockSlack is how far ahead of the clock a use may be: one from a clock that was wrong must not count for years.
	clockSlack = time.Hour
)

// Use is what is taken of one budget.
type Use struct {
	Key    string
	Limit  int
	Window time.Duration
}

// Hold says that a budget must not be used for a while.
type Hold struct {
	Key    string
	Until  time.Time
	Reason string
}

// Spend notes a use of every budget at a time, or of none: if one is held, or has been used Limit times within its Window, it
// returns that, and when there is room again. It is one step for all processes that have the database open.
func (d *DB) Spend(ctx context.Context, at time.Time, uses []Use) (hold Hold, held bool, err error) {
	tx, err := d.db.BeginTx(ctx, nil) // BEGIN IMMEDIATE, see open
	if err != nil {
		return Hold{}, false, err
	}
	defer func() {
		if rollback := tx.Rollback(); !errors.Is(rollback, sql.ErrTxDone) {
			err = errors.Join(err, rollback)
		}
	}()
	if err := forgetUses(ctx, tx, at); err != nil {
		return Hold{}, false, err
	}
	for _, use := range uses {
		if hold, held, err := holdOf(ctx, tx, at, use); held || err != nil {
			return hold, held, errors.Join(err, tx.Commit())
		}
	}
	for _, use := range uses {
		if _, err := tx.ExecContext(ctx, "INSERT INTO uses(key, at, until) VALUES(?,?,?)", use.Key, at.UnixMilli(), at.Add(use.Window).UnixMilli()); err != nil {
			return Hold{}, false, err
		}
	}
	return Hold{}, false, tx.Commit()
}

func forgetUses(ctx context.Context, tx *sql.Tx, at time.Time) error {
	now := at.UnixMilli()
	if _, err := tx.ExecContext(ctx, "DELETE FROM uses WHERE until<=?", now); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM uses WHERE id <= (SELECT max(id) FROM uses) - ?", maxUses); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM holds WHERE until<=?", now)
	return err
}

// holdOf says what a use has to wait for.
func holdOf(ctx context.Context, tx *sql.Tx, at time.Time, use Use) (hold Hold, held bool, err error) {
	var until int64
	err = tx.QueryRowContext(ctx, "SELECT until, reason FROM holds WHERE key=?", use.Key).Scan(&until, &hold.Reason)
	if err == nil {
		hold.Key, hold.Until = use.Key, time.UnixMilli(until)
		return hold, true, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return Hold{}, false, err
	}
	// The budget is used up if there is a use that must grow old before there is room.
	var last int64
	err = tx.QueryRowContext(ctx, "SELECT at FROM uses WHERE key=? AND at>? AND at<=? ORDER BY at DESC LIMIT 1 OFFSET ?",
		use.Key, at.Add(-use.Window).UnixMilli(), at.Add(clockSlack).UnixMilli(), use.Limit-1).Scan(&last)
	if errors.Is(err, sql.ErrNoRows) {
		return Hold{}, false, nil
	}
	return Hold{Key: use.Key, Until: time.UnixMilli(last).Add(use.Window)}, err == nil, err
}

// Used counts the uses of a budget since a time.
func (d *DB) Used(ctx context.Context, key string, since time.Time) (n int, err error) {
	err = d.db.QueryRowContext(ctx, "SELECT count(*) FROM uses WHERE key=? AND at>?", key, since.UnixMilli()).Scan(&n)
	return n, err
}

// Hold holds a budget, instead of what held it before. The end of a very long reason is cut off.
func (d *DB) Hold(ctx context.Context, h Hold) error {
	_, err := d.db.ExecContext(ctx, "INSERT INTO holds(key, until, reason) VALUES(?,?,?) ON CONFLICT(key) DO UPDATE SET until=excluded.until, reason=excluded.reason",
		h.Key, h.Until.UnixMilli(), bounded(h.Reason))
	if err != nil {
		return err
	}
	_, err = d.db.ExecContext(ctx, `DELETE FROM holds WHERE (SELECT count(*) FROM holds) > ?1
		AND key IN (SELECT key FROM holds ORDER BY until DESC, key LIMIT -1 OFFSET ?1)`, maxHolds)
	return err
}

// Holds lists what is held beyond a time.
func (d *DB) Holds(ctx context.Context, after time.Time) ([]Hold, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT key, until, reason FROM holds WHERE until>? ORDER BY key", after.UnixMilli())
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var list []Hold
	for rows.Next() {
		var h Hold
		var until int64
		if err := rows.Scan(&h.Key, &until, &h.Reason); err != nil {
			return nil, err
		}
		h.Until = time.UnixMilli(until)
		list = append(list, h)
	}
	return list, rows.Err()
}
