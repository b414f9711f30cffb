package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
)

// A schema may be used by a program of the one before, which runs beside a newer one during a takeover, and again after a
// rollback. So a step adds columns with defaults, at the end of what the journal has of a row, and tables. What the older one
// does not know it passes over or sets aside, see docs/design.md; min_reader and min_writer in the table meta stay as they are
// if that can be borne.
//
// For schema 1 it can. It names columns, so that its reads and edits go on, and leaves triggers alone that are newer. A row of
// hosts with an asterisk is bad for it, and is set aside. It refuses to undo what the journal has with more columns than it
// knows, and to restore a time if that would need it. Its restore leaves guards alone. A rollback in which no percent could be
// set back to 0 would be worse than all that, so min_writer is 1 as well.

//
// For schema 2 it can, too. A target on a socket, or that speaks HTTP/2, is bad for it, and is set aside. For schema 3 as well: it
// sets aside targets of kinds that are new since, and passes over what upstreams say more; one with targets_of has no targets then.

// upgrade changes the tables of an older generation, in the transaction of q. Triggers are made afterwards. Tables are made anew,
// since SQLite cannot change a constraint.
func upgrade(ctx context.Context, q queryer, generation int) error {
	var err error
	if generation < 2 {
		err = makeAnew(ctx, q, "hosts", "host, https, hsts, needs, note, updated_at", hostsSQL)
		if err == nil {
			_, err = q.ExecContext(ctx, guardsSQL)
		}
	}
	if err == nil {
		err = makeAnew(ctx, q, "upstreams", strings.Join(upstreamsOf(generation), ", "), upstreamsSQL)
	}
	if err == nil {
		err = makeAnew(ctx, q, "targets", "upstream, url, weight, state", targetsSQL)
	}
	return err
}

// upstreamsOf returns the columns that upstreams had.
func upstreamsOf(generation int) []string {
	columns := []string{"name", "response_timeout", "note", "updated_at"}
	for _, s := range settings() {
		if s.since <= generation {
			columns = append(columns, s.column)
		}
	}
	return columns
}

// makeAnew gives a table a new definition and keeps its rows with their ids, and those that were given before from being given
// again. Columns, indexes and triggers that an operator has added are kept, too, the columns with their types and defaults. To
// rename a table is no way: that fails where a view of an operator names it. Rows that the constraints would refuse are kept as they
// are: they have been set aside already.
func makeAnew(ctx context.Context, q queryer, table, columns, definition string) error {
	others, err := othersOn(ctx, q, table, definition)
	added, addErr := foreignColumns(ctx, q, table, definition)
	for _, column := range added {
		columns += ", " + column.name
	}
	err = errors.Join(err, addErr)
	statements := []string{
		"PRAGMA ignore_check_constraints=ON",
		"DROP TABLE IF EXISTS temp.before",
		"DROP TABLE IF EXISTS temp.sequence_before",
		"CREATE TEMP TABLE sequence_before AS SELECT name, seq FROM main.sqlite_sequence WHERE name='" + table + "'",
		"CREATE TEMP TABLE before AS SELECT rowid AS place, " + columns + " FROM main." + table,
		"DROP TABLE main." + table,
		definition,
	}
	for _, column := range added {
		statements = append(statements, "ALTER TABLE main."+table+" ADD COLUMN "+column.definition)
	}
	statements = append(statements,
		"INSERT INTO main."+table+"(rowid, "+columns+") SELECT place, "+columns+" FROM temp.before",
		"DROP TABLE temp.before",
		"DELETE FROM main.sqlite_sequence WHERE name='"+table+"'",
		"INSERT INTO main.sqlite_sequence(name, seq) SELECT name, seq FROM temp.sequence_before",
		"DROP TABLE temp.sequence_before",
	)
	for _, statement := range append(statements, others...) {
		if err == nil {
			_, err = q.ExecContext(ctx, statement)
		}
	}
	_, last := q.ExecContext(context.WithoutCancel(ctx), "PRAGMA ignore_check_constraints=OFF")
	return errors.Join(err, last)
}

// foreignColumn is a column that an operator has added to a table of ours.
type foreignColumn struct{ name, definition string }

// foreignColumns returns the columns of a table that its definition does not have.
func foreignColumns(ctx context.Context, q queryer, table, definition string) (list []foreignColumn, err error) {
	const query = `SELECT name, type, dflt_value FROM pragma_table_info(?) ORDER BY cid`
	err = each(ctx, q, query, func(rows *sql.Rows) error {
		var name, kind string
		var initial sql.NullString
		err := rows.Scan(&name, &kind, &initial)
		if strings.Contains(definition, "\n  "+name+" ") {
			return err
		}
		quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
		column := foreignColumn{quoted, quoted + " " + kind}
		if initial.Valid {
			column.definition += " DEFAULT (" + initial.String + ")"
		}
		list = append(list, column)
		return err
	}, table)
	return list, err
}

// othersOn returns what makes the indexes and triggers of a table that are not ours: an operator's, which go with the table.
func othersOn(ctx context.Context, q queryer, table, definition string) (statements []string, err error) {
	const query = "SELECT name, sql FROM main.sqlite_master WHERE tbl_name=? AND type IN ('index','trigger') AND sql IS NOT NULL ORDER BY rowid"
	err = each(ctx, q, query, func(rows *sql.Rows) error {
		var name, statement string
		err := rows.Scan(&name, &statement)
		if !strings.Contains(definition+programsSQL(), " "+name+" ") {
			statements = append(statements, statement)
		}
		return err
	}, table)
	return statements, err
}
