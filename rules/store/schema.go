package store

import (
	"context"
	"database/sql"
	_ "embed" // for the schema
	"errors"
	"fmt"
	"log/slog"
	"maps"

	"cutover/rules"
)

//go:embed schema.sql
var schemaSQL string

//go:embed programs.sql
var programsSQL string

const applicationID = 1129665615 // "CUTO"

// errNewer says that the file was made by a newer program which this one must not touch.
var errNewer = errors.New("the database was made by a newer cutover that older ones must not use: start that one, or restore a backup from before")

// migrate brings the schema up to date in one transaction: it makes a new one in an empty file, and mends triggers
// and views that are missing or different. A newer schema is left alone.
func migrate(ctx context.Context, conn *sql.Conn, log *slog.Logger) error {
	current, err := isCurrent(ctx, conn)
	if err != nil || current {
		return err
	}
	return writing(ctx, conn, func(q queryer) error {
		generation, err := schemaGeneration(ctx, q)
		if err != nil {
			return err
		}
		if generation > rules.Schema {
			return checkReader(ctx, q)
		}
		if generation == 0 {
			if err := createSchema(ctx, q); err != nil {
				return err
			}
		}
		return mendPrograms(ctx, q, log)
	})
}

// errForeign says that the file is not ours.
var errForeign = errors.New("this is a database of some other program: move it away, or set state_dir to another folder")

func schemaGeneration(ctx context.Context, q queryer) (generation int, err error) {
	err = q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&generation)
	return generation, err
}

// checkReader returns errNewer if this program must not even read the file.
func checkReader(ctx context.Context, q queryer) error {
	var least int
	err := q.QueryRowContext(ctx, "SELECT CAST(value AS INTEGER) FROM meta WHERE key='min_reader'").Scan(&least)
	if err != nil {
		return err
	}
	if least > rules.Schema {
		return errNewer
	}
	return nil
}

func createSchema(ctx context.Context, q queryer) error {
	var tables int
	if err := q.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	if tables > 0 {
		return errForeign
	}
	for _, statement := range []string{
		schemaSQL, fmt.Sprintf("PRAGMA application_id=%d", applicationID), fmt.Sprintf("PRAGMA user_version=%d", rules.Schema),
	} {
		if _, err := q.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make the schema: %w", err)
		}
	}
	return nil
}

// isCurrent looks, without the write lock, whether there is anything to do.
func isCurrent(ctx context.Context, conn *sql.Conn) (current bool, err error) {
	want, err := expectedPrograms(ctx)
	if err != nil {
		return false, err
	}
	err = reading(ctx, conn, func(q queryer) error {
		generation, err := schemaGeneration(ctx, q)
		if err != nil || generation < rules.Schema {
			return err
		}
		if generation > rules.Schema {
			current = true
			return checkReader(ctx, q)
		}
		have, err := readPrograms(ctx, q)
		current = maps.Equal(have, want)
		return err
	})
	return current, err
}

// mendPrograms makes triggers and views anew if one is missing or different: without them the journal has holes.
func mendPrograms(ctx context.Context, q queryer, log *slog.Logger) error {
	want, err := expectedPrograms(ctx)
	if err != nil {
		return err
	}
	have, err := readPrograms(ctx, q)
	if err != nil {
		return err
	}
	if maps.Equal(have, want) {
		return nil
	}
	if len(have) > 0 {
		log.Warn("triggers or views of rules.db were changed; they are made anew", slog.Int("had", len(have)), slog.Int("want", len(want)))
	}
	for name := range have {
		kind, bare := name[0], name[1:]
		statement := `DROP TRIGGER "` + bare + `"`
		if kind == 'v' {
			statement = `DROP VIEW "` + bare + `"`
		}
		if _, err := q.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	_, err = q.ExecContext(ctx, programsSQL)
	return err
}

// expectedPrograms asks SQLite itself how it stores our triggers and views.
func expectedPrograms(ctx context.Context) (map[string]string, error) {
	db, err := sql.Open("sqlite3", ":memory:")
	if err != nil {
		return nil, err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, schemaSQL+programsSQL); err != nil {
		return nil, err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	return readPrograms(ctx, conn)
}

// readPrograms returns the text of every trigger and view, by "t" or "v" and its name.
func readPrograms(ctx context.Context, q queryer) (map[string]string, error) {
	rows, err := q.QueryContext(ctx, "SELECT substr(type,1,1)||name, sql FROM sqlite_master WHERE type IN ('trigger','view')")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	programs := map[string]string{}
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			return nil, err
		}
		programs[name] = text
	}
	return programs, rows.Err()
}
