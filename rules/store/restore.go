package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// Restore brings back everything that operators decide as it stood at a time, by new changes: what happened after the
// last change that is not later than it is taken back. A *ReversalError says why that cannot be. It can be taken back
// itself, by a Restore to just before it. With dryRun it returns what would be, and changes nothing.
func (s *Store) Restore(ctx context.Context, by Author, at time.Time, dryRun bool) (Reversal, error) {
	var result Reversal
	_, err := s.ask(ctx, dryRun, func(ctx context.Context, q queryer) (err error) {
		result, err = restore(ctx, q, by, at)
		return err
	})
	if err != nil {
		return Reversal{}, err
	}
	return result, nil
}

func restore(ctx context.Context, q queryer, by Author, at time.Time) (Reversal, error) {
	result := Reversal{Rows: []RowChange{}}
	if err := checkNotImporting(ctx, q); err != nil {
		return Reversal{}, err
	}
	first, err := firstAfter(ctx, q, at)
	if err == nil && first > 0 {
		err = checkNoHalf(ctx, q, first)
	}
	if err != nil {
		return Reversal{}, err
	}
	if first > 0 {
		err = signed(ctx, q, by, "restore to "+at.UTC().Format(time.RFC3339Nano), func() error { return goBack(ctx, q, first, &result) })
	}
	if err != nil {
		return Reversal{}, err
	}
	result.Seq, err = newestSeq(ctx, q)
	return result, err
}

// firstAfter returns the first change after a time, 0 for none. It refuses where the journal has not all since then.
func firstAfter(ctx context.Context, q queryer, at time.Time) (first int64, err error) {
	var oldest, written, kept, last int64
	var oldestAt string
	const ends = "SELECT coalesce(min(seq),0), coalesce((SELECT at FROM changes ORDER BY seq LIMIT 1),''), " +
		"coalesce((SELECT seq FROM sqlite_sequence WHERE name='changes'),0) FROM changes"
	if err := q.QueryRowContext(ctx, ends).Scan(&oldest, &oldestAt, &written); err != nil {
		return 0, err
	}
	if oldest != 1 && written > 0 && journalTime(at) < oldestAt {
		return 0, &ReversalError{Message: "the journal does not reach back that far: it begins at " + oldestAt, Hint: "give that time or a later one, or restore a backup"}
	}
	const after = "SELECT coalesce(min(seq),0) FROM changes WHERE at>?"
	if err := q.QueryRowContext(ctx, after, journalTime(at)).Scan(&first); err != nil {
		return 0, err
	}
	const since = "SELECT count(*), coalesce((SELECT max(seq) FROM changes WHERE ?1=0 OR seq<?1),0) FROM changes WHERE ?1>0 AND seq>=?1"
	if err := q.QueryRowContext(ctx, since, first).Scan(&kept, &last); err != nil {
		return 0, err
	}
	if missing := written - last - kept; missing > 0 {
		return 0, &ReversalError{Message: fmt.Sprintf("%d changes since then are missing from the journal: somebody deleted them", missing), Hint: "restore a backup"}
	}
	return first, nil
}

// checkNoHalf refuses a time at which a large import was being written, or taken back: half of it was in the tables then, and
// nothing in force.
func checkNoHalf(ctx context.Context, q queryer, first int64) error {
	var tags []string
	err := each(ctx, q, "SELECT DISTINCT replace(note,?,'') FROM changes WHERE seq>=? AND note LIKE 'import %'", func(rows *sql.Rows) error {
		var tag string
		err := rows.Scan(&tag)
		tags = append(tags, tag)
		return err
	}, takenBack, first)
	for _, tag := range tags {
		if err == nil {
			err = checkNotAmid(ctx, q, first, tag)
		}
	}
	return err
}

func checkNotAmid(ctx context.Context, q queryer, first int64, tag string) error {
	var before bool
	var from, to string
	const query = "SELECT min(seq)<?, min(at), max(at) FROM changes WHERE note IN (?,?)"
	if err := q.QueryRowContext(ctx, query, first, tag, tag+takenBack).Scan(&before, &from, &to); err != nil || !before {
		return err
	}
	return &ReversalError{
		Message: "an import was being written at that time, from " + from + " to " + to,
		Hint:    "give a time before it began, or that of its end",
	}
}

// checkNotImporting refuses a restore that an import would go on writing into.
func checkNotImporting(ctx context.Context, q queryer) error {
	h, err := readHeld(ctx, q)
	if err == nil && !h.none() {
		err = &ReversalError{Message: "an import is being written, or taken back", Hint: "wait until it is done, then try again"}
	}
	return err
}

// goBack makes every row what it was before the change first. The order of the steps keeps each rule and each target an
// upstream, so that no trigger refuses or removes anything. Within a table, rows that are in the way go first.
func goBack(ctx context.Context, q queryer, first int64, result *Reversal) error {
	if err := noteTouched(ctx, q, first); err != nil {
		return err
	}
	if err := padTouched(ctx, q); err != nil {
		return err
	}
	if err := eachDifference(ctx, q, allTables(), func(row RowChange) error { result.add(row); return nil }); err != nil {
		return err
	}
	steps := []struct {
		tables []Table
		what   func(RowChange) (RowChange, bool)
	}{
		{[]Table{TableMeta, TableUpstreams}, unlessRemoval},
		{[]Table{TableRules, TableRedirects, TableHosts, TableTargets, TableGuards}, outOfTheWay},
		{[]Table{TableRules, TableRedirects, TableHosts, TableTargets, TableGuards}, unlessRemoval},
		{[]Table{TableUpstreams}, outOfTheWay},
	}
	for _, step := range steps {
		err := eachDifference(ctx, q, step.tables, func(row RowChange) error {
			if row, ok := step.what(row); ok {
				return put(ctx, q, row)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	_, err := q.ExecContext(ctx, "DROP TABLE temp.touched")
	return err
}

func allTables() []Table {
	return []Table{TableMeta, TableUpstreams, TableTargets, TableHosts, TableRules, TableRedirects, TableGuards}
}

func unlessRemoval(row RowChange) (RowChange, bool) { return row, row.Op != OpDelete }

// outOfTheWay removes rows that were not there, and those whose key was another: they may stand where others were.
func outOfTheWay(row RowChange) (RowChange, bool) {
	if row.Op == OpDelete {
		return row, true
	}
	if row.Op != OpUpdate || byName(row.Table) {
		return RowChange{}, false
	}
	t, _ := tableOf(row.Table)
	for _, column := range t.key {
		was, _ := row.Old.Get(column)
		now, _ := row.New.Get(column)
		if was != now {
			row.Op = OpDelete
			return row, true
		}
	}
	return RowChange{}, false
}

// noteTouched collects the rows that were touched since, each as it was before that. A row whose name was changed counts
// as two. It is a temporary table, so that it may be large.
func noteTouched(ctx context.Context, q queryer, first int64) error {
	const public = "tbl IN ('upstreams','targets','hosts','rules','redirects','guards') OR (tbl='meta' AND row='default')"
	const renamed = "(tbl IN ('upstreams','hosts') AND op='update' AND row<>" + oldName + ")"
	const earlier = " ON CONFLICT(tbl,row) DO UPDATE SET seq=excluded.seq, old=excluded.old WHERE excluded.seq<touched.seq"
	for _, statement := range []string{
		"DROP TABLE IF EXISTS temp.touched",
		"CREATE TEMP TABLE touched(tbl TEXT NOT NULL, row TEXT NOT NULL, seq INTEGER NOT NULL, old TEXT, PRIMARY KEY(tbl,row)) WITHOUT ROWID",
		"INSERT OR IGNORE INTO touched SELECT tbl, row, seq, old FROM changes WHERE seq>=?1 AND (" + public + ") AND NOT " + renamed + " ORDER BY seq",
		"INSERT INTO touched SELECT tbl, " + oldName + ", seq, old FROM changes WHERE seq>=?1 AND " + renamed + " ORDER BY seq" + earlier,
		"INSERT INTO touched SELECT tbl, row, seq, NULL FROM changes WHERE seq>=?1 AND " + renamed + " ORDER BY seq" + earlier,
	} {
		values := []any{}
		if strings.Contains(statement, "?1") {
			values = append(values, first)
		}
		if _, err := q.ExecContext(ctx, statement, values...); err != nil {
			return err
		}
	}
	return nil
}

// padTouched gives the rows that were as an older schema had them what the columns that they lacked stood for: their defaults.
func padTouched(ctx context.Context, q queryer) error {
	for name, added := range addedColumns() {
		padded := map[string]string{}
		err := each(ctx, q, "SELECT row, old FROM temp.touched WHERE tbl=? AND old IS NOT NULL", func(rows *sql.Rows) error {
			var row, old string
			err := rows.Scan(&row, &old)
			values, bad := decodeImage(name, old)
			if missing := min(len(added), len(imageColumns(name))-len(values)); bad == nil && missing > 0 {
				padded[row] = old + "," + strings.Join(added[len(added)-missing:], ",")
			}
			return err
		}, string(name))
		if err != nil {
			return err
		}
		for row, image := range padded {
			if _, err := q.ExecContext(ctx, "UPDATE temp.touched SET old=? WHERE tbl=? AND row=?", image, string(name), row); err != nil {
				return err
			}
		}
	}
	return nil
}

// addedColumns are the defaults of the columns that were added to a table, in the order in which they were.
func addedColumns() map[Table][]string {
	var upstreams []string
	for _, s := range settings() {
		upstreams = append(upstreams, s.initial)
	}
	return map[Table][]string{TableHosts: {"'auto'", "'terminate'"}, TableUpstreams: upstreams}
}

// eachDifference calls work for every row that is not as it was, with the change that would make it so. It reads some
// rows at a time, so work may change the tables.
func eachDifference(ctx context.Context, q queryer, of []Table, work func(RowChange) error) error {
	for _, name := range of {
		last := ""
		for {
			rows, err := differences(ctx, q, name, last)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if err := work(row); err != nil {
					return err
				}
				last = row.Row
			}
			if len(rows) < differencesAtOnce {
				break
			}
		}
	}
	return nil
}

const differencesAtOnce = 500

// differences returns the next rows of a table that are not as they were.
func differences(ctx context.Context, q queryer, name Table, after string) (list []RowChange, err error) {
	key, now := rowKey(name), imageSQL("c", imageColumns(name))
	place, cast := "c."+key, "t.row"
	if key == "id" {
		cast = "CAST(t.row AS INTEGER)"
	}
	host := "''"
	if isHosted(name) {
		host = "coalesce(c.host_key,'')"
	}
	query := fmt.Sprintf("SELECT t.row, %[1]s, iif(%[2]s IS NULL, NULL, %[3]s), t.old FROM temp.touched t LEFT JOIN %[4]s c ON %[2]s=%[5]s "+
		"WHERE t.tbl=? AND t.row>? AND t.old IS NOT iif(%[2]s IS NULL, NULL, %[3]s) ORDER BY t.row LIMIT ?", host, place, now, name, cast)
	err = each(ctx, q, query, func(rows *sql.Rows) error {
		row, err := scanDifference(name, rows)
		list = append(list, row)
		return err
	}, string(name), after, differencesAtOnce)
	return list, err
}

func isHosted(name Table) bool {
	return name == TableHosts || name == TableRules || name == TableRedirects || name == TableGuards
}

func scanDifference(name Table, rows *sql.Rows) (RowChange, error) {
	row := RowChange{Table: name, Op: OpUpdate}
	var now, was sql.NullString
	if err := rows.Scan(&row.Row, &row.Host, &now, &was); err != nil {
		return RowChange{}, err
	}
	row, err := row.decoded(now, was)
	if err != nil {
		return RowChange{}, &ReversalError{Message: describeChange(row) + " cannot be put back: the journal has it in a way that cannot be read", Hint: "restore a backup", Err: err}
	}
	switch {
	case !now.Valid:
		row.Op = OpInsert
		host, _ := row.New.Get("host")
		text, _ := host.(string)
		row.Host = strings.TrimRight(strings.ToLower(strings.TrimSpace(text)), ".")
	case !was.Valid:
		row.Op = OpDelete
	}
	return row, nil
}
