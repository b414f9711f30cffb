package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-sqlite3"
)

// importer is one Import under way. Its rows are gathered in a temporary table that has the constraints of the real one,
// which is what finds bad rows, and what the real one is then compared with.
type importer struct {
	Import
	table     table
	conn      *sql.Conn
	by        Author
	now       time.Time
	progress  func(int)
	upstreams map[string]bool
	total     int // rows gathered

	lastStaged, lastReal int64 // the highest ids, of the temporary table and of the real one
	result               ImportResult
}

func (i *importer) run(ctx context.Context, s *Store) error {
	steps := []func(context.Context) error{i.prepare, i.gather, i.sort, i.findLoops}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if i.DryRun || (i.result.BadTotal > 0 && !i.Partial) {
		return reading(ctx, i.conn, func(q queryer) error { return i.compare(ctx, q) })
	}
	return i.write(ctx, s)
}

// write changes the real table: a little at once, much in many short transactions, and held back until its end.
func (i *importer) write(ctx context.Context, s *Store) error {
	if err := reading(ctx, i.conn, func(q queryer) error { return i.compare(ctx, q) }); err != nil {
		return err
	}
	var err error
	if i.Table == TableGuards || i.result.Added+i.result.Changed+i.result.Removed <= atOnce { // guards are always read whole
		err = writing(ctx, i.conn, func(q queryer) error { return i.apply(ctx, q) })
	} else {
		err = i.writeHeld(ctx, s)
	}
	if isBusy(err) {
		return fmt.Errorf("nothing was changed: the database is locked%s; end its transaction with COMMIT or ROLLBACK, then try again: %w", lockHolder(s.path), err)
	}
	i.result.Applied = err == nil
	return err
}

// writeHeld writes in many transactions. If it fails, everything is taken back.
func (i *importer) writeHeld(ctx context.Context, s *Store) error {
	var h held
	err := writing(ctx, i.conn, func(q queryer) error { // busy_timeout bounds the wait
		newest, err := newestSeq(ctx, q)
		if err = errors.Join(err, checkNoneHeld(ctx, q)); err != nil {
			return err
		}
		h = newHeld(newest)
		s.heldImport.Store(&h) // before anything of it can be seen
		return markHeld(ctx, q, h)
	})
	if err != nil {
		if !h.none() {
			s.heldImport.Store(nil)
		}
		return err
	}
	if err = i.writeChunks(ctx, s, h); err == nil {
		err = i.inTransaction(ctx, func(q queryer) error { return i.finish(ctx, q, h) })
	}
	if err != nil {
		if other := s.takeBack(context.WithoutCancel(ctx), i.conn, h); other != nil {
			return errors.Join(err, other) // the owner tries again
		}
	}
	s.letGo()
	return err
}

// inTransaction runs work in a transaction of its own, as soon as the write lock can be had.
func (i *importer) inTransaction(ctx context.Context, work func(queryer) error) error {
	return patiently(ctx, func() error { return writing(ctx, i.conn, work) })
}

// finish counts what was changed and releases it.
func (i *importer) finish(ctx context.Context, q queryer, h held) error {
	if err := errors.Join(checkHeld(ctx, q, h), i.count(ctx, q, h.from, h.tag)); err != nil {
		return err
	}
	return releaseHeld(ctx, q)
}

// prepare makes the temporary table from the text of the real one.
func (i *importer) prepare(ctx context.Context) error {
	i.upstreams = map[string]bool{}
	err := each(ctx, i.conn, "SELECT name FROM upstreams", func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		i.upstreams[name] = true
		return err
	})
	if err != nil {
		return err
	}
	var text string
	if err := i.conn.QueryRowContext(ctx, "SELECT sql FROM main.sqlite_master WHERE type='table' AND name=?", i.Table).Scan(&text); err != nil {
		return err
	}
	_, columns, _ := strings.Cut(text, "(")
	_, err = i.conn.ExecContext(ctx, "CREATE TEMP TABLE gathered("+columns+"; ALTER TABLE temp.gathered ADD COLUMN line INTEGER NOT NULL DEFAULT 0")
	return err
}

// sort makes the table staged: the rows in the order of their keys, since to write them so touches far fewer pages of the
// real table's index. Of rows with the same key the first one stays.
func (i *importer) sort(ctx context.Context) error {
	columns := strings.Join(append(slices.Clone(i.table.columns), "host_key", "line"), ",")
	order := i.keyColumns() + ",id"
	_, err := i.conn.ExecContext(ctx, fmt.Sprintf(`CREATE TEMP TABLE staged(id INTEGER PRIMARY KEY AUTOINCREMENT, gathered INTEGER NOT NULL, updated_at TEXT NOT NULL DEFAULT '', %[1]s);
		CREATE UNIQUE INDEX temp.staged_key ON staged(%[2]s);
		INSERT OR IGNORE INTO temp.staged(gathered,%[1]s) SELECT id,%[1]s FROM temp.gathered ORDER BY %[3]s`, columns, i.keyColumns(), order))
	if err != nil {
		return err
	}
	var staged int
	if err := i.conn.QueryRowContext(ctx, "SELECT count(*) FROM temp.staged").Scan(&staged); err != nil {
		return err
	}
	if staged < i.total {
		err = i.sortedOut(ctx)
		slices.SortStableFunc(i.result.Bad, func(a, b BadRow) int { return cmp.Compare(a.Line, b.Line) })
	}
	i.total = staged
	return errors.Join(err, i.drop(ctx, "gathered"))
}

// sortedOut makes bad rows of those that are there more than once.
func (i *importer) sortedOut(ctx context.Context) error {
	const query = "SELECT line FROM temp.gathered WHERE id NOT IN (SELECT gathered FROM temp.staged) ORDER BY id"
	return each(ctx, i.conn, query, func(rows *sql.Rows) error {
		var line int
		err := rows.Scan(&line)
		i.bad(line, "the same row as one before it")
		return err
	})
}

func (i *importer) drop(ctx context.Context, table string) error {
	_, err := i.conn.ExecContext(ctx, "DROP TABLE temp."+table)
	return err
}

// keyColumns are those of the table's unique index.
func (i *importer) keyColumns() string {
	return strings.Join(append([]string{"host_key"}, i.table.key[1:]...), ",")
}

// gather puts all rows into the temporary table. Nothing of the database is locked meanwhile.
func (i *importer) gather(ctx context.Context) error {
	columns := append(slices.Clone(i.table.columns), "line")
	marks := strings.TrimSuffix(strings.Repeat("?,", len(columns)), ",")
	if _, err := i.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	quiet := context.WithoutCancel(ctx) // a context that can end costs a goroutine for each row
	insert, err := i.conn.PrepareContext(quiet, fmt.Sprintf("INSERT INTO temp.gathered(%s) VALUES(%s)", strings.Join(columns, ","), marks))
	if err == nil {
		err = i.Rows(func(row ImportRow) error { return errors.Join(ctx.Err(), i.add(quiet, insert, row)) })
		err = errors.Join(err, insert.Close())
	}
	if err != nil {
		_, _ = i.conn.ExecContext(quiet, "ROLLBACK") // the connection is given up anyway
		return err
	}
	_, err = i.conn.ExecContext(ctx, "COMMIT")
	return err
}

func (i *importer) add(ctx context.Context, insert *sql.Stmt, row ImportRow) error {
	if row.Problem == "" {
		row.Problem = i.check(row)
	}
	if row.Problem != "" {
		i.bad(row.Line, row.Problem)
		return nil
	}
	_, err := insert.ExecContext(ctx, append(row.values(), row.Line)...)
	var problem sqlite3.Error
	if errors.As(err, &problem) && problem.Code == sqlite3.ErrConstraint {
		i.bad(row.Line, constraintText(problem.Error()))
		return nil
	}
	if err == nil {
		i.total++
	}
	return err
}

// check returns why a row makes no sense, as far as the constraints of the table do not find it.
func (i *importer) check(row ImportRow) string {
	var err error
	switch {
	case i.Table == TableRules && row.Rule != nil:
		for _, name := range []string{row.Rule.V1, row.Rule.V2} {
			if !i.upstreams[name] {
				return fmt.Sprintf("there is no upstream %q (cutover upstreams ls)", name)
			}
		}
		err = row.Rule.Validate()
	case i.Table == TableRedirects && row.Redirect != nil:
		err = row.Redirect.Validate()
	case i.Table == TableGuards && row.Guard != nil:
		err = row.Guard.Validate()
	default:
		return "it is no row of " + string(i.Table)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func (i *importer) bad(line int, reason string) {
	i.result.BadTotal++
	if len(i.result.Bad) < maxBad {
		i.result.Bad = append(i.result.Bad, BadRow{line, reason})
	}
}

// values are the columns of table.columns, in its order.
func (r ImportRow) values() []any {
	if row := r.Rule; row != nil {
		return []any{
			row.Host, row.Path, string(row.Match), row.Conditions, row.V1, row.V2, row.Percent, string(row.Sticky), row.StartsAt, row.EndsAt,
			flag(row.Enabled), row.Needs, row.Note,
		}
	}
	if row := r.Guard; row != nil {
		return []any{
			row.Host, row.Path, row.Allow, row.Deny, row.Rate, row.Burst, row.Users, row.Realm, flag(row.Enabled), row.Needs, row.Note,
		}
	}
	row := r.Redirect
	return []any{
		row.Host, row.Path, string(row.Match), row.ToURL, row.Status, flag(row.KeepPath), flag(row.KeepQuery), flag(row.Enabled), row.Needs, row.Note,
	}
}

func flag(on bool) int {
	if on {
		return 1
	}
	return 0
}

// same is the SQL condition that a row of the temporary table has the key of a row of the real one.
func (i *importer) same() string {
	conditions := []string{"r.host_key=s.host_key"}
	for _, column := range i.table.key[1:] {
		conditions = append(conditions, "r."+column+"=s."+column)
	}
	return strings.Join(conditions, " AND ")
}

// content lists the columns that are no part of the key. Another spelling of a host is no change.
func (i *importer) content() []string {
	return slices.DeleteFunc(slices.Clone(i.table.columns), func(name string) bool { return slices.Contains(i.table.key, name) })
}

// equal is same, and that all other columns agree.
func (i *importer) equal() string {
	text := i.same()
	for _, column := range i.content() {
		text += " AND r." + column + " IS s." + column
	}
	return text
}

// compare counts what would change.
func (i *importer) compare(ctx context.Context, q queryer) error {
	var known int
	count := func(into *int, query string) error { return q.QueryRowContext(ctx, query).Scan(into) }
	err := count(&known, fmt.Sprintf("SELECT count(*) FROM temp.staged s WHERE EXISTS(SELECT 1 FROM main.%s r WHERE %s)", i.Table, i.same()))
	if err == nil {
		err = count(&i.result.Unchanged, fmt.Sprintf("SELECT count(*) FROM temp.staged s WHERE EXISTS(SELECT 1 FROM main.%s r WHERE %s)", i.Table, i.equal()))
	}
	if err == nil && i.Replace {
		err = count(&i.result.Removed, fmt.Sprintf("SELECT count(*) FROM main.%s r WHERE NOT EXISTS(SELECT 1 FROM temp.staged s WHERE %s)", i.Table, i.same()))
	}
	if err == nil {
		err = q.QueryRowContext(ctx, fmt.Sprintf("SELECT (SELECT coalesce(max(id),0) FROM temp.staged), (SELECT coalesce(max(id),0) FROM main.%s)", i.Table)).Scan(&i.lastStaged, &i.lastReal)
	}
	i.result.Added, i.result.Changed = i.total-known, known-i.result.Unchanged
	return err
}

// apply makes the real table what it is to be, in one transaction.
func (i *importer) apply(ctx context.Context, q queryer) error {
	before, err := newestSeq(ctx, q)
	if err = errors.Join(err, checkNoneHeld(ctx, q)); err != nil {
		return err
	}
	err = signed(ctx, q, i.by, "", func() error {
		for _, step := range i.steps() {
			if _, err := q.ExecContext(ctx, step.statement, int64(math.MinInt64), step.last); err != nil {
				return err
			}
		}
		_, err := q.ExecContext(ctx, "DELETE FROM change_context")
		return err
	})
	if err != nil {
		return err
	}
	return i.count(ctx, q, before, "")
}

// count reads from the journal what was changed since a change.
func (i *importer) count(ctx context.Context, q queryer, since int64, note string) error {
	i.result.Added, i.result.Changed, i.result.Removed = 0, 0, 0
	err := each(ctx, q, "SELECT op, count(*) FROM changes WHERE seq>? AND tbl=? AND note=? GROUP BY op", func(rows *sql.Rows) error {
		var op Op
		var n int
		err := rows.Scan(&op, &n)
		*map[Op]*int{OpInsert: &i.result.Added, OpUpdate: &i.result.Changed, OpDelete: &i.result.Removed}[op] = n
		return err
	}, since, i.Table, note)
	if err != nil {
		return err
	}
	i.result.Unchanged = i.total - i.result.Added - i.result.Changed
	i.result.Seq, err = newestSeq(ctx, q)
	return err
}

// step is a statement that changes the real table for rows whose ids are in a range: greater than the first parameter, and
// not greater than the second.
type step struct {
	statement string
	source    string
	last      int64 // the highest id of source
	name      string
}

// steps are what is to be done, one after the other.
func (i *importer) steps() []step {
	steps := make([]step, 0, 2)
	if i.Replace {
		steps = append(steps, step{source: "main." + string(i.Table), last: i.lastReal, statement: fmt.Sprintf(
			"DELETE FROM main.%s AS r WHERE id>? AND id<=? AND NOT EXISTS(SELECT 1 FROM temp.staged s WHERE %s)", i.Table, i.same())})
	}
	columns := strings.Join(i.table.columns, ",")
	sets := make([]string, 0, len(columns))
	for _, column := range i.content() {
		sets = append(sets, column+"=excluded."+column)
	}
	return append(steps, step{source: "temp.staged", last: i.lastStaged, name: "write", statement: fmt.Sprintf(
		"INSERT INTO main.%s(%s) SELECT %s FROM temp.staged s WHERE id>? AND id<=? AND NOT EXISTS(SELECT 1 FROM main.%s r WHERE %s) ON CONFLICT(%s) DO UPDATE SET %s",
		i.Table, columns, columns, i.Table, i.equal(), i.keyColumns(), strings.Join(sets, ","))})
}

// writeChunks does all steps, each in many transactions.
func (i *importer) writeChunks(ctx context.Context, s *Store, h held) error {
	for _, step := range i.steps() {
		done, err := int64(math.MinInt64), error(nil)
		for more := true; more && err == nil; {
			done, more, err = i.writeChunk(ctx, s, h, step, done)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeChunk does a step for the next rows after an id, in a transaction, and rests so that others find their turn. It returns
// the last of their ids; false says that there were none.
func (i *importer) writeChunk(ctx context.Context, s *Store, h held, step step, after int64) (last int64, more bool, err error) {
	if last, more, err = i.chunkEnd(ctx, step, after); !more || err != nil {
		return last, false, err
	}
	err = i.inTransaction(ctx, func(q queryer) error {
		if err := checkHeld(ctx, q, h); err != nil {
			return err
		}
		return signed(ctx, q, i.by, h.tag, func() error {
			if _, err := q.ExecContext(ctx, step.statement, after, last); err != nil {
				return err
			}
			_, err := q.ExecContext(ctx, "DELETE FROM change_context")
			return err
		})
	})
	if err != nil {
		return last, false, err
	}
	if i.progress != nil && step.name != "" {
		i.progress(int(last))
	}
	return last, true, s.giveWay(ctx)
}

// chunkEnd returns the last of the next ids after one, and false if there are none: ids may be far apart.
func (i *importer) chunkEnd(ctx context.Context, step step, after int64) (last int64, more bool, err error) {
	query := "SELECT coalesce(max(id),0), count(*)>0 FROM (SELECT id FROM " + step.source + " WHERE id>? AND id<=? ORDER BY id LIMIT ?)"
	err = i.conn.QueryRowContext(ctx, query, after, step.last, importChunk).Scan(&last, &more)
	return last, more, err
}
