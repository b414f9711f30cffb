package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cutover/rules"
)

// Report is what Check found.
type Report struct {
	Exists   bool            `json:"exists"` // false: the database will be made at the first start
	Schema   int             `json:"schema"`
	Counts   rules.Counts    `json:"counts"`
	Problems []rules.Problem `json:"problems"`
}

func (r Report) String() string {
	if !r.Exists {
		return "no database yet; it will be made at the first start"
	}
	return fmt.Sprintf("schema %d, %d rules, %d redirects, %d rows that are not served as written", r.Schema, r.Counts.Rules, r.Counts.Redirects, len(r.Problems))
}

// Check tests whether this program could serve the rules in dir. It writes nothing, takes no lock, and may run beside
// the process that holds the rules. A database that is missing is fine, unless there were rules in it.
func Check(ctx context.Context, dir string) (Report, error) {
	path := filepath.Join(dir, File)
	report, err := checkFileAt(ctx, path)
	if err == nil && !report.Exists {
		if last, _, other := readSnapshot(dir); other == nil && holdsDecisions(last.view) {
			err = errEmptied
		}
	}
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", path, plainError(err))
	}
	return report, nil
}

func checkFileAt(ctx context.Context, path string) (report Report, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return Report{}, nil
	}
	source := dataSource(path, "ro")
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		source += "&immutable=1" // nobody has it open; else SQLite would leave files beside it
	}
	db, err := sql.Open("sqlite3", source)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = conn.Close() }()
	err = reading(ctx, conn, func(q queryer) (err error) {
		report, err = check(ctx, q)
		return err
	})
	return report, err
}

func check(ctx context.Context, q queryer) (Report, error) {
	generation, err := recognise(ctx, q)
	if err != nil || generation == 0 {
		return Report{}, err // 0: an empty file
	}
	if err := checkReader(ctx, q, generation); err != nil {
		return Report{}, err
	}
	l, err := loadOf(ctx, q, generation, nil, &Options{})
	if err != nil {
		return Report{}, err
	}
	return Report{Exists: true, Schema: generation, Counts: l.view.Counts(), Problems: l.view.Problems()}, nil
}
