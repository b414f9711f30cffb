package sqlprompt

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mattn/go-sqlite3"
)

// plain says in an operator's words why a statement failed. The name of a constraint is written to be read.
func plain(err error) error {
	var problem sqlite3.Error
	if !errors.As(err, &problem) {
		return err
	}
	switch problem.Code {
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return fmt.Errorf("another program holds the write lock; nothing was changed, try again: %w", err)
	case sqlite3.ErrReadonly:
		return fmt.Errorf("the database cannot be written: %w", err)
	case sqlite3.ErrNotADB, sqlite3.ErrCorrupt:
		return fmt.Errorf("the file is damaged, or no database: %w", err)
	}
	text := problem.Error()
	if name, ok := strings.CutPrefix(text, "CHECK constraint failed: "); ok {
		return errors.New(name)
	}
	if column, ok := strings.CutPrefix(text, "NOT NULL constraint failed: "); ok {
		return errors.New(column + " must have a value")
	}
	if columns, ok := strings.CutPrefix(text, "UNIQUE constraint failed: "); ok {
		return errors.New("a row with the same " + strings.ReplaceAll(columns, "host_key", "host") + " is there already")
	}
	return errors.New(text)
}
