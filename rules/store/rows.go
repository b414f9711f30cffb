package store

import (
	"context"
	"database/sql"
	"strconv"
	"strings"

	"cutover/rules"
)

// eachRule calls use for every row of rules that a condition in SQL holds for.
func eachRule(ctx context.Context, q queryer, where string, use func(*rules.Rule), args ...any) error {
	return each(ctx, q, "SELECT "+ruleColumns+" FROM rules WHERE "+where, func(rows *sql.Rows) error {
		row, err := scanRule(rows)
		if err == nil {
			use(&row)
		}
		return err
	}, args...)
}

// eachRedirect calls use for every row of redirects that a condition in SQL holds for.
func eachRedirect(ctx context.Context, q queryer, where string, use func(*rules.Redirect), args ...any) error {
	return each(ctx, q, "SELECT "+redirectColumns+" FROM redirects WHERE "+where, func(rows *sql.Rows) error {
		row, err := scanRedirect(rows)
		if err == nil {
			use(&row)
		}
		return err
	}, args...)
}

// eachGuard calls use for every row of guards that a condition in SQL holds for.
func eachGuard(ctx context.Context, q queryer, where string, use func(*rules.GuardRow), args ...any) error {
	return each(ctx, q, "SELECT "+guardColumns+" FROM guards WHERE "+where, func(rows *sql.Rows) error {
		row, err := scanGuard(rows)
		if err == nil {
			use(&row)
		}
		return err
	}, args...)
}

// eachID calls read with conditions in SQL that together name all ids, some hundred at a time.
func eachID(ids []int64, read func(where string) error) error {
	const most = 500
	for len(ids) > 0 {
		n := min(len(ids), most)
		text := make([]string, n)
		for i, id := range ids[:n] {
			text[i] = strconv.FormatInt(id, 10)
		}
		if err := read("id IN (" + strings.Join(text, ",") + ")"); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}
