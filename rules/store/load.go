package store

import (
	"context"
	"database/sql"
	"time"

	"cutover/rules"
)

// loaded is what one read transaction saw.
type loaded struct {
	rows     rules.Rows
	seq      int64
	lastEdit time.Time
}

// load reads everything that decides requests. Columns are always named, so that a newer schema may add some.
func load(ctx context.Context, q queryer) (loaded, error) {
	var l loaded
	for _, step := range []func(context.Context, queryer, *loaded) error{
		loadMeta, loadUpstreams, loadTargets, loadHosts, loadRules, loadRedirects, loadJournal,
	} {
		if err := step(ctx, q, &l); err != nil {
			return loaded{}, err
		}
	}
	return l, nil
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

func loadMeta(ctx context.Context, q queryer, l *loaded) error {
	return each(ctx, q, "SELECT key, value FROM meta WHERE key IN ('lineage','default')", func(rows *sql.Rows) error {
		var key, value string
		err := rows.Scan(&key, &value)
		if key == "lineage" {
			l.rows.Lineage = value
		} else {
			l.rows.Default = rules.Default(value)
		}
		return err
	})
}

func loadUpstreams(ctx context.Context, q queryer, l *loaded) error {
	return each(ctx, q, "SELECT "+upstreamColumns+" FROM upstreams ORDER BY name", func(rows *sql.Rows) error {
		u, err := scanUpstream(rows)
		l.rows.Upstreams = append(l.rows.Upstreams, u)
		return err
	})
}

func loadTargets(ctx context.Context, q queryer, l *loaded) error {
	place := map[string]int{}
	for i, u := range l.rows.Upstreams {
		place[u.Name] = i
	}
	return each(ctx, q, "SELECT "+targetColumns+" FROM targets ORDER BY id", func(rows *sql.Rows) error {
		t, err := scanTarget(rows)
		if i, ok := place[t.Upstream]; ok {
			l.rows.Upstreams[i].Targets = append(l.rows.Upstreams[i].Targets, t)
		}
		return err
	})
}

func loadHosts(ctx context.Context, q queryer, l *loaded) error {
	return each(ctx, q, "SELECT "+hostColumns+" FROM hosts ORDER BY host_key", func(rows *sql.Rows) error {
		h, err := scanHost(rows)
		l.rows.Hosts = append(l.rows.Hosts, h)
		return err
	})
}

func loadRules(ctx context.Context, q queryer, l *loaded) error {
	return each(ctx, q, "SELECT "+ruleColumns+" FROM rules ORDER BY id", func(rows *sql.Rows) error {
		r, err := scanRule(rows)
		l.rows.Rules = append(l.rows.Rules, r)
		return err
	})
}

func loadRedirects(ctx context.Context, q queryer, l *loaded) error {
	return each(ctx, q, "SELECT "+redirectColumns+" FROM redirects ORDER BY id", func(rows *sql.Rows) error {
		r, err := scanRedirect(rows)
		l.rows.Redirects = append(l.rows.Redirects, r)
		return err
	})
}

func loadJournal(ctx context.Context, q queryer, l *loaded) error {
	return each(ctx, q, "SELECT seq, at FROM changes ORDER BY seq DESC LIMIT 1", func(rows *sql.Rows) error {
		var at string
		err := rows.Scan(&l.seq, &at)
		l.lastEdit, _ = time.Parse(time.RFC3339, at) // for people only
		return err
	})
}

// The columns of each table, in the order in which they are scanned. Constraints can be switched off, so a number that is
// none is read as -1, which Validate refuses: one bad row must not hide the others.
const (
	upstreamColumns = "name, iif(typeof(response_timeout) IN ('integer','real'), response_timeout, -1), note, updated_at"
	targetColumns   = "id, upstream, url, iif(typeof(weight)='integer', weight, -1), state"
	hostColumns     = "host, https, iif(typeof(hsts)='integer', hsts, -1), iif(typeof(needs)='integer', needs, 1), note, updated_at"
	ruleColumns     = "id, host, path, match, conditions, v1, v2, iif(typeof(percent) IN ('integer','real'), percent, -1), sticky, " +
		"starts_at, ends_at, enabled IS 1, iif(typeof(needs)='integer', needs, 1), note, updated_at"
	redirectColumns = "id, host, path, match, to_url, iif(typeof(status)='integer', status, -1), " +
		"keep_path IS 1, keep_query IS 1, enabled IS 1, iif(typeof(needs)='integer', needs, 1), note, updated_at"
)
