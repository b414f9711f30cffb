// Package observed keeps what the program observes, as opposed to what operators decide: observed.db. It may be
// deleted at any time; what it held is then observed anew.
package observed

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
)

// File is the name of the database in the state directory.
const File = "observed.db"

const schema = `
CREATE TABLE IF NOT EXISTS attempts(
  name     TEXT PRIMARY KEY NOT NULL,
  failures INTEGER NOT NULL,
  next     INTEGER NOT NULL,
  error    TEXT NOT NULL,
  at       INTEGER NOT NULL
) WITHOUT ROWID;
` + budgetSchema + queueSchema

// The bounds of attempts. What waits no longer goes first, then what failed once, the oldest of it before the others.
const (
	maxAttempts = 10_000
	maxError    = 2000 // bytes
)

// DB is the open database. Its methods may be called by any number of goroutines.
type DB struct {
	db      *sql.DB
	damaged error
}

// Attempt is a name whose certificate could not be had.
type Attempt struct {
	Name     string    // in normal form
	Failures int       // in a row
	Next     time.Time // no further attempt before
	Error    string    // of the last one
	At       time.Time // of the last one
}

// Open opens observed.db in dir, or makes it. A file that is damaged is moved aside and made anew, see Damaged; any
// other trouble (a full disk, no permission) is an error, and the file stays as it is.
func Open(ctx context.Context, dir string) (*DB, error) {
	path := filepath.Join(dir, File)
	d, err := open(ctx, path)
	if isDamaged(err) {
		cause := err
		if err = moveAside(path); err == nil {
			d, err = open(ctx, path)
		}
		if err == nil {
			d.damaged = fmt.Errorf("%s was damaged and is made anew; what was left of it is %s: %w", path, path+damagedSuffix, cause)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// Damaged says that Open found a damaged file, and where it is now; nil if the file was sound. It is for the log.
func (d *DB) Damaged() error { return d.damaged }

func open(ctx context.Context, path string) (*DB, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	query := url.Values{"_journal_mode": {"WAL"}, "_synchronous": {"NORMAL"}, "_busy_timeout": {"2000"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite3", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+query.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	d := &DB{db: db}
	if err := d.prepare(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

// prepare makes the tables that are missing, and reads all of them: damage shows now, while it can be mended.
func (d *DB) prepare(ctx context.Context) error {
	if _, err := d.db.ExecContext(ctx, "PRAGMA trusted_schema=OFF;"+schema); err != nil {
		return err
	}
	if _, err := d.Attempts(ctx); err != nil {
		return err
	}
	if _, err := d.Holds(ctx, time.Time{}); err != nil {
		return err
	}
	if _, err := d.Pending(ctx, 0); err != nil {
		return err
	}
	if _, err := d.Used(ctx, "", time.Time{}); err != nil {
		return err
	}
	var verdict string
	if err := d.db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errDamaged, verdict)
	}
	return nil
}

var errDamaged = errors.New("the file is damaged")

// isDamaged tells a file that is beyond use, a table of another shape included, from one that cannot be had just now.
func isDamaged(err error) bool {
	var problem sqlite3.Error
	if !errors.As(err, &problem) {
		return errors.Is(err, errDamaged)
	}
	switch problem.Code {
	case sqlite3.ErrCorrupt, sqlite3.ErrNotADB, sqlite3.ErrError:
		return true
	}
	return false
}

const damagedSuffix = ".damaged"

// moveAside renames a damaged database and its companions, over those that were moved aside before.
func moveAside(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Rename(path+suffix, path+damagedSuffix+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Close closes the database.
func (d *DB) Close() error { return d.db.Close() }

// Attempts returns every attempt, the oldest first.
func (d *DB) Attempts(ctx context.Context) ([]Attempt, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT name, failures, next, error, at FROM attempts ORDER BY at, name")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var list []Attempt
	for rows.Next() {
		var a Attempt
		var next, at int64
		if err := rows.Scan(&a.Name, &a.Failures, &next, &a.Error, &at); err != nil {
			return nil, err
		}
		a.Next, a.At = time.UnixMilli(next), time.UnixMilli(at)
		list = append(list, a)
	}
	return list, rows.Err()
}

// Attempt returns a name's attempt, if there is one.
func (d *DB) Attempt(ctx context.Context, name string) (a Attempt, known bool, err error) {
	var next, at int64
	err = d.db.QueryRowContext(ctx, "SELECT name, failures, next, error, at FROM attempts WHERE name=?", name).Scan(&a.Name, &a.Failures, &next, &a.Error, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return Attempt{}, false, nil
	}
	a.Next, a.At = time.UnixMilli(next), time.UnixMilli(at)
	return a, err == nil, err
}

// SaveAttempt keeps an attempt, over the one for the same name. The end of a very long error is cut off.
func (d *DB) SaveAttempt(ctx context.Context, a Attempt) error {
	a.Error = bounded(a.Error)
	_, err := d.db.ExecContext(ctx, `INSERT INTO attempts(name, failures, next, error, at) VALUES(?,?,?,?,?)
		ON CONFLICT(name) DO UPDATE SET failures=excluded.failures, next=excluded.next, error=excluded.error, at=excluded.at`,
		a.Name, a.Failures, a.Next.UnixMilli(), a.Error, a.At.UnixMilli())
	if err != nil {
		return err
	}
	_, err = d.db.ExecContext(ctx, `DELETE FROM attempts WHERE (SELECT count(*) FROM attempts) > ?1
		AND name IN (SELECT name FROM attempts ORDER BY next > ?2 DESC, failures DESC, at DESC, name LIMIT -1 OFFSET ?1)`, maxAttempts, time.Now().UnixMilli())
	return err
}

// bounded cuts off the end of a very long text.
func bounded(text string) string {
	if len(text) <= maxError {
		return text
	}
	return strings.ToValidUTF8(text[:maxError], "")
}

// DeleteAttempt forgets a name; one that is not there is no error.
func (d *DB) DeleteAttempt(ctx context.Context, name string) error {
	_, err := d.db.ExecContext(ctx, "DELETE FROM attempts WHERE name=?", name)
	return err
}
