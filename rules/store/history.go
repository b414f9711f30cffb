package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Op says what a change did to its row.
type Op string

// The values of Op.
const (
	OpInsert Op = "insert"
	OpUpdate Op = "update"
	OpDelete Op = "delete"
)

// RowChange is what became of a row.
type RowChange struct {
	Table Table  `json:"table"`
	Row   string `json:"row"`            // its id; where the table has none, its name
	Host  string `json:"host,omitempty"` // in the form that the rules have it
	Op    Op     `json:"op"`
	Old   Values `json:"old"` // nil where it was not there before
	New   Values `json:"new"` // nil where it is not there afterwards
}

// Change is an entry of the journal.
type Change struct {
	Seq    int64     `json:"seq"`
	At     time.Time `json:"at"`
	Author string    `json:"author"`
	Note   string    `json:"note,omitempty"`
	RowChange
	// Problem says why Old and New cannot be read.
	Problem string `json:"problem,omitempty"`

	old, new sql.NullString // as they stand in the journal
}

// Filter narrows a history. What is left zero does not count.
type Filter struct {
	Host   string // in the form that the rules have it; also finds rows that had it before
	Author string // a part of the name
	Table  Table
	Since  time.Time // not before
	Until  time.Time // before
	Before int64     // only changes older than the one with this number, for the next page
	Limit  int       // 0 means 50
}

const defaultLimit = 50

// History lists changes, the newest first. It reads through a connection of its own, so nobody waits for it.
func (s *Store) History(ctx context.Context, f Filter) ([]Change, error) {
	changes := []Change{}
	err := s.readAside(ctx, func(q queryer) error {
		where, values := f.where()
		return each(ctx, q, "SELECT "+changeColumns+" FROM changes WHERE "+where+" ORDER BY seq DESC LIMIT ?", func(rows *sql.Rows) error {
			change, err := scanChange(rows)
			changes = append(changes, change)
			return err
		}, append(values, f.limit())...)
	})
	if err != nil {
		return nil, fmt.Errorf("history: %w", plainError(err))
	}
	return changes, nil
}

func (f Filter) limit() int {
	if f.Limit <= 0 {
		return defaultLimit
	}
	return f.Limit
}

// where returns the filter as an SQL condition.
func (f Filter) where() (text string, values []any) {
	conditions := []string{"1"}
	add := func(given bool, condition string, value ...any) {
		if given {
			conditions, values = append(conditions, condition), append(values, value...)
		}
	}
	add(f.Host != "", "(host=? OR old_host=?)", f.Host, f.Host)
	add(f.Author != "", "instr(lower(author),lower(?))>0", f.Author)
	add(f.Table != "", "tbl=?", string(f.Table))
	add(!f.Since.IsZero(), "at>=?", journalTime(f.Since))
	add(!f.Until.IsZero(), "at<?", journalTime(f.Until))
	add(f.Before > 0, "seq<?", f.Before)
	return strings.Join(conditions, " AND "), values
}

// journalTime writes a moment as the journal does: such texts sort by time.
func journalTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

const changeColumns = "seq, at, author, note, tbl, row, coalesce(host, old_host, ''), op, old, new"

func scanChange(row scanner) (c Change, err error) {
	var at string
	if err := row.Scan(&c.Seq, &at, &c.Author, &c.Note, &c.Table, &c.Row, &c.Host, &c.Op, &c.old, &c.new); err != nil {
		return Change{}, err
	}
	c.At, err = time.Parse(time.RFC3339, at)
	if err == nil {
		c.RowChange, err = c.decoded(c.old, c.new)
	}
	if err != nil {
		c.Problem = err.Error() // somebody wrote it by hand; the others can be read
	}
	return c, nil
}

// decoded returns the change with its images read.
func (r RowChange) decoded(before, after sql.NullString) (RowChange, error) {
	var problems [2]error
	if before.Valid {
		r.Old, problems[0] = decodeImage(r.Table, before.String)
	}
	if after.Valid {
		r.New, problems[1] = decodeImage(r.Table, after.String)
	}
	return r, errors.Join(problems[:]...)
}
