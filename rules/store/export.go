package store

import (
	"context"
	"database/sql"

	"cutover/rules"
)

// ExportRules yields every rule as it stands in the database, sorted by host and path, and ends with yield's error. It reads
// one state of the database, whatever is changed meanwhile, and holds one row at a time.
func (s *Store) ExportRules(ctx context.Context, yield func(*rules.Rule) error) error {
	return s.export(ctx, "SELECT "+ruleColumns+" FROM rules ORDER BY host_key, path, match, conditions", func(rows *sql.Rows) error {
		row, err := scanRule(rows)
		if err != nil {
			return err
		}
		return yield(&row)
	})
}

// ExportRedirects is ExportRules for redirects.
func (s *Store) ExportRedirects(ctx context.Context, yield func(*rules.Redirect) error) error {
	return s.export(ctx, "SELECT "+redirectColumns+" FROM redirects ORDER BY host_key, path, match", func(rows *sql.Rows) error {
		row, err := scanRedirect(rows)
		if err != nil {
			return err
		}
		return yield(&row)
	})
}

// ExportGuards is ExportRules for guards.
func (s *Store) ExportGuards(ctx context.Context, yield func(*rules.GuardRow) error) error {
	return s.export(ctx, "SELECT "+guardColumns+" FROM guards ORDER BY host_key, path", func(rows *sql.Rows) error {
		row, err := scanGuard(rows)
		if err != nil {
			return err
		}
		return yield(&row)
	})
}

func (s *Store) export(ctx context.Context, query string, scan func(*sql.Rows) error) error {
	return s.readAside(ctx, func(q queryer) error { return each(ctx, q, query, scan) })
}
