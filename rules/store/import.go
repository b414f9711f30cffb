package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"cutover/rules"
)

// Import is many rows at once: all of them come into force in one moment, or none. Many are written in short transactions that are
// held back until the last.
type Import struct {
	Table   Table // rules, redirects or guards
	Replace bool  // rows of the table that are not among these are removed
	Partial bool  // bad rows are left out; else a single one keeps all from being applied
	DryRun  bool  // count, and change nothing
	// Rows calls add for each row, in order, and ends with its error. It is called once, before the database is locked.
	Rows func(add func(ImportRow) error) error
}

// ImportRow is a row of an Import. One of Rule, Redirect, Guard and Problem is set.
type ImportRow struct {
	Line     int // in the file, for BadRow
	Rule     *rules.Rule
	Redirect *rules.Redirect
	Guard    *rules.GuardRow
	Problem  string // why the line is no row
}

// BadRow is a row that cannot be applied, and why.
type BadRow struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// ImportResult says what an import did, or with a dry run would do.
type ImportResult struct {
	Applied   bool     `json:"applied"` // false: a dry run, or bad rows; nothing was changed
	Added     int      `json:"added"`
	Changed   int      `json:"changed"`
	Removed   int      `json:"removed"`
	Unchanged int      `json:"unchanged"`
	BadTotal  int      `json:"bad_total"`
	Bad       []BadRow `json:"bad"`      // the first thousand
	Warnings  []string `json:"warnings"` // what is applied and yet looks wrong; the first hundred
	Seq       int64    `json:"seq"`      // of the newest change in the journal
}

const (
	maxBad      = 1000 // bad rows that are named
	maxWarnings = 100
	atOnce      = 2000                   // changes that one transaction makes; more are made in many of them
	importChunk = 500                    // rows that one of these looks at: a hundredth of a second
	importRest  = 2 * time.Millisecond   // between them, in which another program may take the write lock
	importYield = 100 * time.Millisecond // how long edits through the owner go before the next of them
)

// ErrImporting says that another import is under way.
var ErrImporting = errors.New("another import is under way: wait until it is done")

var errNoImport = errors.New("only rules, redirects and guards can be imported")

// Import applies many rows, and returns when they are committed and in force, which happens at once. progress, which may be
// nil, is told how many rows are written. Edits of others go on meanwhile. An error says that nothing was changed.
func (s *Store) Import(ctx context.Context, by Author, im Import, progress func(done int)) (ImportResult, error) {
	if !slices.Contains([]Table{TableRules, TableRedirects, TableGuards}, im.Table) {
		return ImportResult{}, errNoImport
	}
	if !s.importing.CompareAndSwap(false, true) {
		return ImportResult{}, ErrImporting
	}
	defer s.importing.Store(false)
	if !s.writer.Load() || s.leaving.Load() {
		return ImportResult{}, ErrNotWriter
	}
	if !s.holding().none() {
		return ImportResult{}, errTakingBack
	}
	if health := s.Health(); health.ReadOnly {
		return ImportResult{}, errors.New(health.Problem)
	}
	select {
	case <-s.ended: // or a quick one could be done before the context below has learned of it
		return ImportResult{}, errEnded
	default:
	}
	ctx, cancel := s.whileHeld(ctx)
	defer cancel(nil)
	result, err := s.importRows(ctx, by, im, progress)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return result, plainError(err)
}

// whileHeld returns a context that ends with the owner too.
func (s *Store) whileHeld(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-s.ended:
			cancel(errEnded)
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (s *Store) importRows(ctx context.Context, by Author, im Import, progress func(int)) (result ImportResult, err error) {
	err = s.withConnection(ctx, func(conn *sql.Conn) error {
		t, _ := tableOf(im.Table)
		i := &importer{Import: im, table: t, conn: conn, by: by, now: s.options.now(), progress: progress}
		i.result.Bad, i.result.Warnings = []BadRow{}, []string{}
		err := i.run(ctx, s)
		result = i.result
		return err
	})
	if err == nil && result.Applied {
		err = s.waitFor(ctx, func() bool { return s.Snapshot().Seq >= result.Seq && s.holding().none() })
	}
	return result, err
}

// withConnection opens a connection of its own for work, beside the owner's.
func (s *Store) withConnection(ctx context.Context, work func(*sql.Conn) error) (err error) {
	db, err := sql.Open("sqlite3", dataSource(s.path, "rw"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, pragma := range []string{
		"PRAGMA trusted_schema=OFF", "PRAGMA busy_timeout=5000", "PRAGMA cache_size=-32000",
		"PRAGMA wal_autocheckpoint=4000", // while an import is held the owner leaves this to it
	} {
		if _, err := conn.ExecContext(ctx, pragma); err != nil {
			return err
		}
	}
	return work(conn)
}

// waitFor waits until the owner has published what it notices by itself.
func (s *Store) waitFor(ctx context.Context, published func() bool) error {
	again := time.NewTicker(s.options.pollInterval())
	defer again.Stop()
	for !published() {
		if health := s.Health(); health.ReadOnly {
			return fmt.Errorf("the rows are stored, but not in force: %s", health.Problem)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("the rows are stored, and come into force by themselves: %w", ctx.Err())
		}
	}
	return nil
}
