package store

import (
	"context"
	"database/sql"

	"cutover/rules"
)

// The lists show rows as they stand in the tables, bad and disabled ones included. They are read beside the owner, and
// fail where the database cannot be read. host is in normal form, or empty for all hosts; more says that there are more
// rows than limit.

// Rules returns rows of rules, the oldest first.
func (s *Store) Rules(ctx context.Context, host string, limit int) (list []rules.Rule, more bool, err error) {
	where, args := ofHost(host, limit)
	err = s.readAside(ctx, func(q queryer) error {
		return eachRule(ctx, q, where, func(r *rules.Rule) { list = append(list, *r) }, args...)
	})
	list, more = cut(list, limit)
	return list, more, plainError(err)
}

// Redirects returns rows of redirects, the oldest first.
func (s *Store) Redirects(ctx context.Context, host string, limit int) (list []rules.Redirect, more bool, err error) {
	where, args := ofHost(host, limit)
	err = s.readAside(ctx, func(q queryer) error {
		return eachRedirect(ctx, q, where, func(r *rules.Redirect) { list = append(list, *r) }, args...)
	})
	list, more = cut(list, limit)
	return list, more, plainError(err)
}

// Hosts returns rows of hosts by name.
func (s *Store) Hosts(ctx context.Context, host string, limit int) (list []rules.Host, more bool, err error) {
	query, args := "SELECT "+hostColumns+" FROM hosts ORDER BY host_key LIMIT ?", []any{limit + 1}
	if host != "" {
		query, args = "SELECT "+hostColumns+" FROM hosts WHERE host_key=? LIMIT ?", []any{host, limit + 1}
	}
	err = s.readAside(ctx, func(q queryer) error {
		return each(ctx, q, query, func(rows *sql.Rows) error {
			row, err := scanHost(rows)
			list = append(list, row)
			return err
		}, args...)
	})
	list, more = cut(list, limit)
	return list, more, plainError(err)
}

// Guards returns rows of guards, the oldest first.
func (s *Store) Guards(ctx context.Context, host string, limit int) (list []rules.GuardRow, more bool, err error) {
	where, args := ofHost(host, limit)
	err = s.readAside(ctx, func(q queryer) error {
		return eachGuard(ctx, q, where, func(g *rules.GuardRow) { list = append(list, *g) }, args...)
	})
	list, more = cut(list, limit)
	return list, more, plainError(err)
}

// Guard returns a row of guards by its id; nil if it is gone.
func (s *Store) Guard(ctx context.Context, id int64) (row *rules.GuardRow, err error) {
	err = s.readAside(ctx, func(q queryer) error {
		return eachGuard(ctx, q, "id=?", func(g *rules.GuardRow) { row = g }, id)
	})
	return row, plainError(err)
}

// Upstreams returns all rows of upstreams with their targets, by name.
func (s *Store) Upstreams(ctx context.Context) (list []rules.Upstream, err error) {
	err = s.readAside(ctx, func(q queryer) (err error) {
		list, err = loadUpstreams(ctx, q, upstreamColumns(rules.Schema))
		return err
	})
	return list, plainError(err)
}

// Rule returns a row of rules by its id; nil if it is gone.
func (s *Store) Rule(ctx context.Context, id int64) (row *rules.Rule, err error) {
	err = s.readAside(ctx, func(q queryer) error {
		return eachRule(ctx, q, "id=?", func(r *rules.Rule) { row = r }, id)
	})
	return row, plainError(err)
}

// Redirect returns a row of redirects by its id; nil if it is gone.
func (s *Store) Redirect(ctx context.Context, id int64) (row *rules.Redirect, err error) {
	err = s.readAside(ctx, func(q queryer) error {
		return eachRedirect(ctx, q, "id=?", func(r *rules.Redirect) { row = r }, id)
	})
	return row, plainError(err)
}

// ofHost returns a condition in SQL for the rows of a host, one more than limit.
func ofHost(host string, limit int) (where string, args []any) {
	if host == "" {
		return "1 ORDER BY id LIMIT ?", []any{limit + 1}
	}
	return "host_key=? ORDER BY id LIMIT ?", []any{host, limit + 1}
}

// cut shortens a list that is longer than limit. It is never nil.
func cut[Row any](list []Row, limit int) (short []Row, more bool) {
	if list == nil {
		return []Row{}, false
	}
	return list[:min(len(list), limit)], len(list) > limit
}
