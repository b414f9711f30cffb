package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/mattn/go-sqlite3"
)

// Table is a public table by its name.
type Table string

// The tables that an Edit may name.
const (
	TableUpstreams Table = "upstreams"
	TableTargets   Table = "targets"
	TableHosts     Table = "hosts"
	TableRules     Table = "rules"
	TableRedirects Table = "redirects"
	TableGuards    Table = "guards"
	TableMeta      Table = "meta"
)

// ErrNotFound says that an edit names a row that does not exist.
var ErrNotFound = errors.New("there is no such row")

var errMetaKey = errors.New("only the key default can be set here")

// Edit changes, adds or removes one row. Row holds columns by their names. With an id, that row is meant and must
// exist; else the columns of the table's key name it, and a row that does not exist is added. Only the columns given
// change.
type Edit struct {
	Table  Table          `json:"table"`
	Remove bool           `json:"remove,omitempty"`
	Row    map[string]any `json:"row"`
}

// EditError says which edit makes no sense, and why. Nothing was changed.
type EditError struct {
	Index   int // of the edit in its call
	Edit    Edit
	Message string // plain words
	Hint    string // the next step; may be empty
	Err     error  // the cause: ErrNotFound, or nil
}

func (e *EditError) Error() string { return e.Message }
func (e *EditError) Unwrap() error { return e.Err }

// Result says what edits did, or with a dry run would do.
type Result struct {
	Changed int              `json:"changed"`
	Rows    []map[string]any `json:"rows"` // each edit's row as it stands afterwards, or as it was before it was removed
	Seq     int64            `json:"seq"`  // of the newest change in the journal
	// Doubts are what whoever asked for it should know about edits that make sense nevertheless.
	Doubts []string `json:"doubts,omitempty"`
}

// applyEdits makes the edits of one request inside a transaction.
func applyEdits(ctx context.Context, q queryer, edits []Edit) (Result, error) {
	result := Result{Rows: []map[string]any{}}
	for i, edit := range edits {
		row, err := applyEdit(ctx, q, edit)
		if err != nil {
			return Result{}, explainEdit(i, edit, err)
		}
		result.Rows = append(result.Rows, row)
		result.Changed++
	}
	return result, nil
}

func applyEdit(ctx context.Context, q queryer, edit Edit) (map[string]any, error) {
	t, ok := tableOf(edit.Table)
	if !ok {
		return nil, fmt.Errorf("%q is not a table that can be edited", edit.Table)
	}
	columns, values, err := t.assignments(edit.Row)
	if err != nil {
		return nil, err
	}
	rowid, err := t.find(ctx, q, edit)
	if err != nil {
		return nil, err
	}
	switch {
	case rowid == 0 && edit.Remove:
		return nil, ErrNotFound
	case edit.Remove:
		return t.remove(ctx, q, edit.Table, rowid)
	case rowid == 0:
		if edit.Table == TableMeta {
			return nil, errMetaKey
		}
		return t.result(q.QueryRowContext(ctx, insertSQL(edit.Table, columns)+" RETURNING "+t.names, values...))
	case len(columns) > 0:
		_, err = q.ExecContext(ctx, fmt.Sprintf("UPDATE %s SET %s=? WHERE rowid=?", edit.Table, strings.Join(columns, "=?, ")), append(values, rowid)...)
	}
	if err != nil {
		return nil, err
	}
	return t.result(q.QueryRowContext(ctx, "SELECT "+t.names+" FROM "+string(edit.Table)+" WHERE rowid=?", rowid))
}

// result returns a row as it was made; one that makes no sense is an error.
func (t table) result(row scanner) (map[string]any, error) {
	object, problem, err := t.object(row)
	return object, errors.Join(err, problem)
}

func insertSQL(name Table, columns []string) string {
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(columns)), ", ")
	return "INSERT INTO " + string(name) + "(" + strings.Join(columns, ", ") + ") VALUES(" + marks + ")"
}

func (t table) remove(ctx context.Context, q queryer, name Table, rowid int64) (map[string]any, error) {
	row, _, err := t.object(q.QueryRowContext(ctx, "SELECT "+t.names+" FROM "+string(name)+" WHERE rowid=?", rowid)) // a bad row may be removed
	if err != nil {
		return nil, err
	}
	_, err = q.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s WHERE rowid=?", name), rowid)
	return row, err
}

// object returns a row as a JSON object, and why it makes no sense.
func (t table) object(scanned scanner) (object map[string]any, problem, err error) {
	row, problem, err := t.read(scanned)
	if err != nil {
		return nil, nil, err
	}
	return jsonObject(row), problem, nil
}

// jsonObject returns what a row would be after a way through JSON, numbers as float64. Rows are flat structs, but for the
// targets of an upstream, which an edit never has.
func jsonObject(row any) map[string]any {
	value := reflect.ValueOf(row)
	object := make(map[string]any, value.NumField())
	for i := range value.NumField() {
		name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
		switch field := value.Field(i); field.Kind() {
		case reflect.String:
			object[name] = field.String()
		case reflect.Int, reflect.Int64:
			object[name] = float64(field.Int())
		case reflect.Float64:
			object[name] = field.Float()
		case reflect.Bool:
			object[name] = field.Bool()
		default:
			object[name] = nil
		}
	}
	return object
}

// assignments returns the columns that an edit sets, in the table's order, and their values for SQLite.
func (t table) assignments(row map[string]any) (columns []string, values []any, err error) {
	for name := range row {
		if !slices.Contains(t.columns, name) && (name != "id" || !t.hasID) {
			return nil, nil, fmt.Errorf("there is no column %q that can be set; there are %s", name, strings.Join(t.columns, ", "))
		}
	}
	for _, name := range t.columns {
		value, ok := row[name]
		if !ok {
			continue
		}
		if value, err = forSQLite(value); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		columns, values = append(columns, name), append(values, value)
	}
	return columns, values, nil
}

// forSQLite turns a value of JSON into one of SQLite: an object or list into its text, true and false into 1 and 0.
func forSQLite(value any) (any, error) {
	switch v := value.(type) {
	case nil:
		return nil, errors.New("must have a value; leave it out to keep the one it has")
	case map[string]any, []any:
		text, err := json.Marshal(v)
		return string(text), err
	case json.Number:
		return v.String(), nil // the column's affinity makes a number of it
	}
	return value, nil
}

// find returns the rowid of the row that an edit names; 0 if there is none. A row named by id must exist.
func (t table) find(ctx context.Context, q queryer, edit Edit) (rowid int64, err error) {
	where, values, err := t.where(edit.Row)
	if err != nil {
		return 0, err
	}
	err = q.QueryRowContext(ctx, fmt.Sprintf("SELECT rowid FROM %s WHERE %s", edit.Table, where), values...).Scan(&rowid)
	if errors.Is(err, sql.ErrNoRows) {
		if where == byID {
			return 0, ErrNotFound
		}
		return 0, nil
	}
	return rowid, err
}

const byID = "id=?"

// where returns the SQL condition for the row that an edit names.
func (t table) where(row map[string]any) (text string, values []any, err error) {
	if id, ok := row["id"]; ok {
		id, err := forSQLite(id)
		return byID, []any{id}, err
	}
	conditions := make([]string, 0, len(t.key))
	for _, column := range t.key {
		value, ok := row[column]
		if !ok {
			initial, optional := t.initial[column]
			if !optional {
				return "", nil, fmt.Errorf("%s is missing: it names the row", column)
			}
			value = initial
		}
		if value, err = forSQLite(value); err != nil {
			return "", nil, fmt.Errorf("%s: %w", column, err)
		}
		condition := column + "=?"
		if column == "host" {
			condition = "host_key=rtrim(lower(trim(?)),'.')"
		}
		conditions, values = append(conditions, condition), append(values, value)
	}
	return strings.Join(conditions, " AND "), values, nil
}

// explainEdit turns what SQLite says of an edit into an EditError. Errors that are not the edit's fault stay as they are.
func explainEdit(index int, edit Edit, err error) error {
	var problem sqlite3.Error
	if errors.As(err, &problem) && problem.Code != sqlite3.ErrConstraint {
		return plainError(err)
	}
	e := &EditError{Index: index, Edit: edit, Message: constraintText(err.Error())}
	if errors.Is(err, ErrNotFound) {
		e.Err, e.Message = ErrNotFound, describe(edit)+": there is no such row in "+string(edit.Table)
		e.Hint = "run 'cutover " + string(edit.Table) + " ls' for those there are"
	}
	return e
}

// constraintText cuts SQLite's own words off a constraint's name.
func constraintText(message string) string {
	for _, noise := range []string{"CHECK constraint failed: ", "NOT NULL constraint failed: "} {
		if text, ok := strings.CutPrefix(message, noise); ok {
			if noise[0] == 'N' {
				return text + " must have a value"
			}
			return text
		}
	}
	return message
}

func describe(edit Edit) string {
	if id, ok := edit.Row["id"]; ok {
		return fmt.Sprintf("id %v", id)
	}
	for _, column := range []string{"host", "name", "url", "key"} {
		if value, ok := edit.Row[column]; ok {
			path, _ := edit.Row["path"].(string)
			return fmt.Sprint(value) + path
		}
	}
	return "the edit"
}
