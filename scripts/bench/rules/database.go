package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"

	"cutover/rules/store"
)

// hostName returns the name of the nth host, 27 characters long as customers' domains are.
func hostName(n int) string {
	return fmt.Sprintf("customer-%d.shop-%d.example", n*7919%1_000_003, n%997)
}

// makeEmpty makes a state directory as a first start does, with a target for v1 and one for v2.
func makeEmpty(ctx context.Context, dir string, targets *targets) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil || targets == nil {
		return err
	}
	return inDatabase(dir, func(db *sql.DB) error {
		_, err := db.ExecContext(ctx, "INSERT INTO targets(upstream, url) VALUES('v1', ?), ('v2', ?)", targets.v1.URL, targets.v2.URL)
		return err
	})
}

// inDatabase opens a database as another program does, durable as the daemon's.
func inDatabase(dir string, work func(*sql.DB) error) error {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, store.File)+"?_synchronous=FULL&_journal_mode=WAL&_busy_timeout=5000")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	return errors.Join(work(db), db.Close())
}

// insertRules adds rules in transactions of the given size, triggers and all, and returns how long that took.
func insertRules(ctx context.Context, db *sql.DB, count, each int) (time.Duration, error) {
	began := time.Now()
	for n := 0; n < count; n += each {
		if err := insertSome(ctx, db, n, min(n+each, count)); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func insertSome(ctx context.Context, db *sql.DB, from, to int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	insert, err := tx.PrepareContext(ctx, "INSERT INTO rules(host, percent) VALUES(?, ?)")
	quiet := context.WithoutCancel(ctx) // one that can end costs a goroutine for each row
	for n := from; n < to && err == nil; n++ {
		_, err = insert.ExecContext(quiet, hostName(n), 0)
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// bareScan reads the columns that decide as text, and does nothing with them.
func bareScan(ctx context.Context, dir string) (took time.Duration, err error) {
	const query = `SELECT coalesce(max(id),0), coalesce(group_concat(id||x'1f'||host||x'1f'||path||x'1f'||match||x'1f'||conditions||x'1f'||v1||x'1f'||v2
		||x'1f'||percent||x'1f'||sticky||x'1f'||starts_at||x'1f'||ends_at||x'1f'||enabled||x'1f'||needs, x'1e'),'')
		FROM (SELECT * FROM rules WHERE id>? ORDER BY id LIMIT 20000)`
	err = inDatabase(dir, func(db *sql.DB) error {
		began := time.Now()
		for last := 0; ; {
			var text string
			after := last
			if err := db.QueryRowContext(ctx, query, after).Scan(&last, &text); err != nil {
				return err
			}
			if text == "" {
				took = time.Since(began)
				return nil
			}
		}
	})
	return took, err
}
