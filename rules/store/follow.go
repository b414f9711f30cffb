package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"cutover/rules"
)

// maxFollowed is how many changes are followed one by one: with more, reading everything anew is faster.
const maxFollowed = 20_000

var (
	// errDiscontinued says that the journal is not the continuation of what was read before: a backup was restored.
	errDiscontinued = errors.New("the journal was discontinued")
	// errTooMany says that more has changed than should be followed one by one.
	errTooMany = errors.New("too many changes to follow one by one")
)

// change is a line of the journal, as far as following it needs it.
type change struct {
	seq                     int64
	author, table, row, op  string
	host, oldHost, oldImage string
}

// followed is what has changed since a view was made, and the view with that.
type followed struct {
	loaded
	changes []change
}

// follow reads what has changed since a view was made, and nothing else: the journal since then, and the rows that it
// names. Changes that are held back are passed over. The errors are errDiscontinued, errTooMany and those of reading.
func follow(ctx context.Context, q queryer, from loaded, hold held) (followed, error) {
	if err := checkContinued(ctx, q, from); err != nil {
		return followed{}, err
	}
	if err := touchTables(ctx, q); err != nil { // no journal tells of a table that is gone
		return followed{}, err
	}
	changes, err := readChanges(ctx, q, from.mark.seq, hold)
	if err != nil {
		return followed{}, err
	}
	if len(changes) == 0 && hold.none() {
		return followed{loaded: from}, nil
	}
	if len(changes) > maxFollowed {
		return followed{}, errTooMany
	}
	if len(changes) == 0 { // all are held back
		newest, err := readMark(ctx, q)
		return followed{loaded: loaded{from.view, newest}}, err
	}
	update, err := readUpdate(ctx, q, from.view, changes)
	if err != nil {
		return followed{}, err
	}
	newest, err := readMark(ctx, q)
	return followed{loaded{from.view.Update(update), newest}, changes}, err
}

// checkContinued returns errDiscontinued unless the change that a view was made at is in the journal, and that of the
// same database.
func checkContinued(ctx context.Context, q queryer, from loaded) error {
	const same = `SELECT coalesce((SELECT value FROM meta WHERE key='lineage'),'') IN ('',?1)
		AND coalesce((SELECT nonce FROM changes WHERE seq=?2)=?3, ?2=0)`
	var continued bool
	err := q.QueryRowContext(ctx, same, from.view.Lineage(), from.mark.seq, from.mark.nonce).Scan(&continued)
	if err == nil && !continued {
		return errDiscontinued
	}
	return err
}

// touchTables returns an error if one of the tables cannot be read at all.
func touchTables(ctx context.Context, q queryer) error {
	var n int
	const query = `SELECT (SELECT count(*) FROM (SELECT 1 FROM rules LIMIT 1)) + (SELECT count(*) FROM (SELECT 1 FROM redirects LIMIT 1))
		+ (SELECT count(*) FROM (SELECT 1 FROM hosts LIMIT 1)) + (SELECT count(*) FROM (SELECT 1 FROM guards LIMIT 1)) + (SELECT count(*) FROM upstreams) + (SELECT count(*) FROM targets)`
	return q.QueryRowContext(ctx, query).Scan(&n)
}

func readChanges(ctx context.Context, q queryer, after int64, hold held) (list []change, err error) {
	const query = `SELECT seq, author, tbl, row, op, coalesce(host,''), coalesce(old_host,''), coalesce(old,'') FROM changes WHERE seq>? AND (?='' OR note NOT IN (?,?)) ORDER BY seq LIMIT ?`
	err = each(ctx, q, query, func(rows *sql.Rows) error {
		var c change
		err := rows.Scan(&c.seq, &c.author, &c.table, &c.row, &c.op, &c.host, &c.oldHost, &c.oldImage)
		list = append(list, c)
		return err
	}, after, hold.tag, hold.tag, hold.tag+takenBack, maxFollowed+1)
	return list, err
}

// readUpdate reads what has become of everything that changed.
func readUpdate(ctx context.Context, q queryer, view *rules.View, changes []change) (u rules.Update, err error) {
	touched := newTouched(view, changes)
	if touched.meta {
		_, value, err := loadMeta(ctx, q)
		if err != nil {
			return u, err
		}
		u.Default = &value
	}
	if touched.upstreams {
		list, err := loadUpstreams(ctx, q, upstreamColumns(rules.Schema))
		if err != nil {
			return u, err
		}
		u.Upstreams = &list
	}
	if touched.guards {
		list, err := loadGuards(ctx, q)
		if err != nil {
			return u, err
		}
		u.Guards = &list
	}
	if u.Hosts, err = readHosts(ctx, q, touched.hosts); err != nil {
		return u, err
	}
	u.Rows, err = touched.read(ctx, q)
	return u, err
}

// readHosts returns what the rows of hosts are now, by their keys.
func readHosts(ctx context.Context, q queryer, keys []string) (list []rules.HostUpdate, err error) {
	for _, key := range keys {
		u := rules.HostUpdate{Host: key}
		err := each(ctx, q, "SELECT "+hostColumns+" FROM hosts WHERE host_key=?", func(rows *sql.Rows) error {
			row, err := scanHost(rows)
			u.Row = &row
			return err
		}, key)
		if err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, nil
}

// touched is what changes name.
type touched struct {
	meta, upstreams, guards bool
	hosts                   []string
	rows                    []rules.RowUpdate
	place                   map[rules.Ref]int // in rows
}

func newTouched(view *rules.View, changes []change) *touched {
	t := &touched{place: map[rules.Ref]int{}}
	for i := range changes {
		t.add(&changes[i])
	}
	if t.upstreams { // rules may have been bad for want of one
		for _, ref := range view.BadRules() {
			t.row(ref)
		}
	}
	slices.Sort(t.hosts)
	t.hosts = slices.Compact(t.hosts)
	return t
}

func (t *touched) add(c *change) {
	switch Table(c.table) {
	case TableMeta:
		t.meta = true
	case TableUpstreams, TableTargets:
		t.upstreams = true
	case TableGuards:
		t.guards = true
	case TableHosts:
		for _, host := range []string{c.host, c.oldHost} {
			if host != "" {
				t.hosts = append(t.hosts, host)
			}
		}
	case TableRules, TableRedirects:
		ref := rules.Ref{Table: c.table, ID: parseID(c.row)}
		row := t.row(ref)
		if location, ok := imageLocation(c.oldImage); ok {
			row.Was = append(row.Was, location)
		}
	}
}

// row returns the update of a row, which is made if it is new.
func (t *touched) row(ref rules.Ref) *rules.RowUpdate {
	i, ok := t.place[ref]
	if !ok {
		i = len(t.rows)
		t.place[ref] = i
		t.rows = append(t.rows, rules.RowUpdate{Ref: ref})
	}
	return &t.rows[i]
}

// read finds out what the rows are now.
func (t *touched) read(ctx context.Context, q queryer) ([]rules.RowUpdate, error) {
	ids := map[string][]int64{}
	for _, row := range t.rows {
		ids[row.Ref.Table] = append(ids[row.Ref.Table], row.Ref.ID)
	}
	err := eachID(ids[string(TableRules)], func(where string) error {
		return eachRule(ctx, q, where, func(r *rules.Rule) {
			row := *r
			t.row(rules.Ref{Table: string(TableRules), ID: r.ID}).Rule = &row
		})
	})
	if err != nil {
		return nil, err
	}
	err = eachID(ids[string(TableRedirects)], func(where string) error {
		return eachRedirect(ctx, q, where, func(r *rules.Redirect) {
			row := *r
			t.row(rules.Ref{Table: string(TableRedirects), ID: r.ID}).Redirect = &row
		})
	})
	return t.rows, err
}
