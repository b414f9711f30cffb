package store

import (
	"context"
	"database/sql"
	"time"

	"cutover/rules"
)

// loaded is what one read transaction saw.
type loaded struct {
	view *rules.View
	mark mark
}

// mark is a place in the journal: which change was the newest. The nonce tells it from another one of the same number,
// which a database restored from a backup may have.
type mark struct {
	seq, nonce int64
	at         time.Time
}

// load reads everything that decides requests. Rows that make no sense fall back on previous, which may be nil. Columns
// are always named, so that a newer schema may add some.
func load(ctx context.Context, q queryer, previous *rules.View, now time.Time) (loaded, error) {
	return loadOf(ctx, q, rules.Schema, previous, now)
}

// loadOf is load for a schema that may be an older one: what it lacks has its default.
func loadOf(ctx context.Context, q queryer, generation int, previous *rules.View, now time.Time) (loaded, error) {
	columns := columnsOf(generation)
	setup, err := loadSetup(ctx, q, columns, previous)
	if err != nil {
		return loaded{}, err
	}
	newest, err := readMark(ctx, q)
	if err != nil {
		return loaded{}, err
	}
	builder := rules.NewBuilder(setup, previous)
	if err := loadHosts(ctx, q, columns, builder); err != nil {
		return loaded{}, err
	}
	if generation >= 2 {
		guards, err := loadGuards(ctx, q)
		if err != nil {
			return loaded{}, err
		}
		builder.SetGuards(guards)
	}
	if err := redirectBulk(builder).load(ctx, q); err != nil {
		return loaded{}, err
	}
	if err := ruleBulk(builder).load(ctx, q); err != nil {
		return loaded{}, err
	}
	view, err := builder.View(now)
	return loaded{view, newest}, err
}

// each calls scan for every row of a query.
func each(ctx context.Context, q queryer, query string, scan func(*sql.Rows) error, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func loadSetup(ctx context.Context, q queryer, columns columns, previous *rules.View) (setup rules.Setup, err error) {
	if setup.Lineage, setup.Default, err = loadMeta(ctx, q); err != nil {
		return setup, err
	}
	if setup.Lineage == "" {
		setup.Lineage = previous.Lineage() // else every visitor would change sides
	}
	if setup.Upstreams, err = loadUpstreams(ctx, q, columns.upstreams); err != nil {
		return setup, err
	}
	// The highest ids are near the number of rows, but after many deletions; a page holds some 60 rows at most.
	const guess = `SELECT max(0,min(60*(SELECT page_count FROM pragma_page_count), coalesce((SELECT max(id) FROM rules),0)+coalesce((SELECT max(id) FROM redirects),0)))`
	return setup, q.QueryRowContext(ctx, guess).Scan(&setup.Expect)
}

func loadMeta(ctx context.Context, q queryer) (lineage string, fallback rules.Default, err error) {
	err = each(ctx, q, "SELECT key, value FROM meta WHERE key IN ('lineage','default')", func(rows *sql.Rows) error {
		var key, value string
		err := rows.Scan(&key, &value)
		if key == "lineage" {
			lineage = value
		} else {
			fallback = rules.Default(value)
		}
		return err
	})
	return lineage, fallback, err
}

// loadUpstreams returns every upstream with its targets.
func loadUpstreams(ctx context.Context, q queryer, columns string) ([]rules.Upstream, error) {
	list := []rules.Upstream{}
	place := map[string]int{}
	err := each(ctx, q, "SELECT "+columns+" FROM upstreams ORDER BY name", func(rows *sql.Rows) error {
		u, err := scanUpstream(rows)
		place[u.Name] = len(list)
		list = append(list, u)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, each(ctx, q, "SELECT "+targetColumns+" FROM targets ORDER BY id", func(rows *sql.Rows) error {
		t, err := scanTarget(rows)
		if i, ok := place[t.Upstream]; ok {
			list[i].Targets = append(list[i].Targets, t)
		}
		return err
	})
}

// loadGuards returns every guard.
func loadGuards(ctx context.Context, q queryer) (list []rules.GuardRow, err error) {
	err = eachGuard(ctx, q, "1 ORDER BY id", func(g *rules.GuardRow) { list = append(list, *g) })
	return list, err
}

func loadHosts(ctx context.Context, q queryer, columns columns, builder *rules.Builder) error {
	return each(ctx, q, "SELECT "+columns.hosts+" FROM hosts", func(rows *sql.Rows) error {
		h, err := scanHost(rows)
		if err == nil {
			builder.AddHost(&h)
		}
		return err
	})
}

// readMark returns the newest change; the zero mark if there is none.
func readMark(ctx context.Context, q queryer) (m mark, err error) {
	err = each(ctx, q, "SELECT seq, nonce, at FROM changes ORDER BY seq DESC LIMIT 1", func(rows *sql.Rows) error {
		var at string
		err := rows.Scan(&m.seq, &m.nonce, &at)
		m.at, _ = time.Parse(time.RFC3339, at) // for people only
		return err
	})
	return m, err
}

// The columns of each table, in the order in which they are scanned. Constraints can be switched off, so a number that is
// none is read as -1, which Validate refuses: one bad row must not hide the others.
const (
	targetColumns = "id, upstream, url, iif(typeof(weight)='integer', weight, -1), state"
	hostColumns1  = "host, https, iif(typeof(hsts)='integer', hsts, -1), iif(typeof(needs)='integer', needs, 1), note, updated_at"
	hostColumns   = hostColumns1 + ", certificate, tls"
	ruleColumns   = "id, host, path, match, conditions, v1, v2, iif(typeof(percent) IN ('integer','real'), percent, -1), sticky, " +
		"starts_at, ends_at, enabled IS 1, iif(typeof(needs)='integer', needs, 1), note, updated_at"
	redirectColumns = "id, host, path, match, to_url, iif(typeof(status)='integer', status, -1), " +
		"keep_path IS 1, keep_query IS 1, enabled IS 1, iif(typeof(needs)='integer', needs, 1), note, updated_at"
	guardColumns = "id, host, path, allow, deny, iif(typeof(rate) IN ('integer','real'), rate, -1), iif(typeof(burst)='integer', burst, -1), users, realm, " +
		"enabled IS 1, iif(typeof(needs)='integer', needs, 1), note, updated_at"
)

// columns are those of the tables that had fewer once.
type columns struct{ upstreams, hosts string }

func columnsOf(generation int) columns {
	of := columns{upstreamColumns(generation), hostColumns}
	if generation < 2 {
		of.hosts = hostColumns1 + ", 'auto', 'terminate'"
	}
	return of
}
