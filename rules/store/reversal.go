package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mattn/go-sqlite3"
)

// Reversal says what Undo or Restore did, or with a dry run would do.
type Reversal struct {
	Added   int         `json:"added"`
	Removed int         `json:"removed"`
	Changed int         `json:"changed"`
	Rows    []RowChange `json:"rows"` // the first thousand
	Seq     int64       `json:"seq"`  // of the newest change in the journal
}

// maxRows is how many rows a Reversal lists.
const maxRows = 1000

// Total returns how many rows are affected.
func (r *Reversal) Total() int { return r.Added + r.Removed + r.Changed }

func (r *Reversal) add(row RowChange) {
	switch row.Op {
	case OpInsert:
		r.Added++
	case OpDelete:
		r.Removed++
	case OpUpdate:
		r.Changed++
	}
	if len(r.Rows) < maxRows {
		r.Rows = append(r.Rows, row)
	}
}

// ReversalError says why a change cannot be undone, or a time not be gone back to. Nothing was changed.
type ReversalError struct {
	Seq     int64   // of the change; 0 for Restore
	Later   *Change // what touched the row since, and so must be undone before; may be nil
	Message string  // plain words
	Hint    string  // the next step
	Err     error   // the cause: ErrNotFound, or nil
}

func (e *ReversalError) Error() string { return e.Message }
func (e *ReversalError) Unwrap() error { return e.Err }

// isRefusal reports whether an error is the fault of what was asked for, and not of the database.
func isRefusal(err error) bool {
	return errors.As(err, new(*EditError)) || errors.As(err, new(*ReversalError))
}

// signed does work whose changes the journal has under a name, with a note. The name stands until the next one, or until
// the batch ends.
func signed(ctx context.Context, q queryer, by Author, note string, work func() error) error {
	if err := sign(ctx, q, by.String(), note); err != nil {
		return err
	}
	return work()
}

func sign(ctx context.Context, q queryer, author, note string) error {
	_, err := q.ExecContext(ctx, "REPLACE INTO change_context(rowid,author,note) VALUES(1,?,?)", author, note)
	return err
}

func newestSeq(ctx context.Context, q queryer) (seq int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT coalesce(max(seq),0) FROM changes").Scan(&seq)
	return seq, err
}

// rowKey is the column whose value the journal calls row.
func rowKey(name Table) string {
	switch name {
	case TableMeta:
		return "key"
	case TableUpstreams:
		return "name"
	case TableHosts:
		return "host"
	}
	return "id"
}

// currentImage returns a row as the triggers would write it, with the columns of a change's image; not valid if there is
// no such row.
func currentImage(ctx context.Context, q queryer, name Table, row string, columns Values) (image sql.NullString, err error) {
	names := make([]string, len(columns))
	for i, column := range columns {
		names[i] = column.Name
	}
	if len(names) == 0 {
		names = imageColumns(name)
	}
	query := fmt.Sprintf("SELECT %s FROM %s t WHERE t.%s=?", imageSQL("t", names), name, rowKey(name))
	err = q.QueryRowContext(ctx, query, row).Scan(&image)
	if errors.Is(err, sql.ErrNoRows) {
		return sql.NullString{}, nil
	}
	return image, err
}

// put does to a row what change says.
func put(ctx context.Context, q queryer, change RowChange) error {
	var err error
	key := rowKey(change.Table)
	switch change.Op {
	case OpDelete:
		_, err = q.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s WHERE %s=?", change.Table, key), change.Row)
	case OpInsert:
		columns, values := change.New.split()
		if key == "id" {
			columns, values = append(columns, key), append(values, change.Row)
		}
		_, err = q.ExecContext(ctx, insertSQL(change.Table, columns), values...)
	case OpUpdate:
		columns, values := change.New.split()
		statement := fmt.Sprintf("UPDATE %s SET %s=? WHERE %s=?", change.Table, strings.Join(columns, "=?, "), key)
		_, err = q.ExecContext(ctx, statement, append(values, change.Row)...)
	}
	return explainPut(change, err)
}

func (v Values) split() (columns []string, values []any) {
	for _, column := range v {
		columns, values = append(columns, column.Name), append(values, column.Value)
	}
	return columns, values
}

// explainPut makes a ReversalError of what a constraint or trigger refuses.
func explainPut(change RowChange, err error) error {
	var problem sqlite3.Error
	if !errors.As(err, &problem) || problem.Code != sqlite3.ErrConstraint {
		return err
	}
	why := constraintText(problem.Error())
	if strings.HasPrefix(why, "UNIQUE constraint failed") {
		why = "another row has taken its place, and would have to go first"
	}
	return &ReversalError{
		Message: fmt.Sprintf("%s cannot be put back: %s", describeChange(change), why),
		Hint:    "see 'cutover history' for what came after it",
	}
}

// describeChange names the row of a change.
func describeChange(change RowChange) string {
	text := string(change.Table) + " row " + change.Row
	if change.Host != "" && change.Host != change.Row {
		text += " (" + change.Host + ")"
	}
	return text
}

// inverse returns the change that takes c back.
func (c *Change) inverse() RowChange {
	back := RowChange{Table: c.Table, Row: c.Row, Host: c.Host, Old: c.New, New: c.Old, Op: OpUpdate}
	switch c.Op {
	case OpInsert:
		back.Op = OpDelete
	case OpDelete:
		back.Op = OpInsert
	case OpUpdate:
	}
	return back
}

// isPublic reports whether a row may be put back: of meta only the default.
func isPublic(name Table, row string) bool {
	_, known := tableOf(name)
	return known && (name != TableMeta || row == "default")
}

// byName reports whether the journal knows the rows of a table by a name, which may change.
func byName(name Table) bool { return slices.Contains([]Table{TableUpstreams, TableHosts}, name) }
