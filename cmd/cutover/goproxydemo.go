package main

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"net/url"
	"os"

	"cutover/rules"
	"cutover/rules/transfer"
)

// goProxyDemo is the program whose database can be imported: proxy_rules(domain, version) and
// redirect_rules(prefix, to_url).
const goProxyDemo = "go-proxy-demo"

// demoReader yields the rows of such a database as rows of ours; the caller checks them.
type demoReader[R transfer.Row] func(ctx context.Context, db *sql.DB, yield func(transfer.Line[R]) error) error

// openForeign opens a database for reading alone, and looks whether it is one.
func openForeign(ctx context.Context, path string) (*sql.DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	source := "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=ro&_busy_timeout=5000&_query_only=1"
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		source += "&immutable=1" // nobody has it open; else SQLite would leave files beside it
	}
	db, err := sql.Open("sqlite3", source)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func readDemoRules(ctx context.Context, db *sql.DB, yield func(transfer.Line[rules.Rule]) error) error {
	return readPairs(ctx, db, "SELECT rowid, CAST(domain AS TEXT), CAST(version AS TEXT) FROM proxy_rules ORDER BY rowid", func(line int, domain, version string) error {
		row, err := transfer.DemoRule(domain, version)
		return yield(transfer.Line[rules.Rule]{Number: line, Row: row, Err: err})
	})
}

func readDemoRedirects(ctx context.Context, db *sql.DB, yield func(transfer.Line[rules.Redirect]) error) error {
	return readPairs(ctx, db, "SELECT rowid, CAST(prefix AS TEXT), CAST(to_url AS TEXT) FROM redirect_rules ORDER BY rowid", func(line int, prefix, to string) error {
		row, err := transfer.DemoRedirect(prefix, to)
		return yield(transfer.Line[rules.Redirect]{Number: line, Row: row, Err: err})
	})
}

// readPairs calls take for every row of a query; NULL is the empty text.
func readPairs(ctx context.Context, db *sql.DB, query string, take func(line int, first, second string) error) (err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var line int
		var first, second sql.NullString
		if err := rows.Scan(&line, &first, &second); err != nil {
			return err
		}
		if err := take(line, first.String, second.String); err != nil {
			return err
		}
	}
	return rows.Err()
}
