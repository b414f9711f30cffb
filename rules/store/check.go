package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

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
// the process that holds the rules.
func Check(ctx context.Context, dir string) (Report, error) {
	path := filepath.Join(dir, File)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return Report{}, nil
	}
	db, err := sql.Open("sqlite3", dataSource(path, "ro"))
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = db.Close() }()
	report, err := check(ctx, db)
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", path, plainError(err))
	}
	return report, nil
}

func check(ctx context.Context, db *sql.DB) (Report, error) {
	generation, err := schemaGeneration(ctx, db)
	if err != nil {
		return Report{}, err
	}
	if generation > rules.Schema {
		if err := checkReader(ctx, db); err != nil {
			return Report{}, err
		}
	}
	if generation == 0 {
		return Report{}, nil // an empty file
	}
	l, err := load(ctx, db)
	if err != nil {
		return Report{}, err
	}
	view, problems := rules.Compile(l.rows, nil, time.Now())
	return Report{Exists: true, Schema: generation, Counts: view.Counts(), Problems: problems}, nil
}
