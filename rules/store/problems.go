package store

import (
	"context"
	"database/sql"
	"log/slog"
	"slices"

	"cutover/rules"
)

const maxRecorded = 10_000

// recordProblems writes what is wrong into rule_errors, for readers at the prompt. It is a help: failing is no fault.
func (s *Store) recordProblems(ctx context.Context) {
	problems := s.Snapshot().Problems
	problems = problems[:min(len(problems), maxRecorded)]
	if s.recorded && !s.unrecorded && slices.Equal(s.known, problems) {
		return
	}
	s.unrecorded, s.recorded, s.known = false, true, problems
	if s.readOnly.Load() || !s.writer.Load() || s.sameProblems(ctx, problems) {
		return
	}
	err := writing(ctx, s.conn, func(q queryer) error {
		if _, err := q.ExecContext(ctx, "DELETE FROM rule_errors"); err != nil {
			return err
		}
		for _, p := range problems {
			_, err := q.ExecContext(ctx, "INSERT INTO rule_errors(tbl,row,host,reason,serving_last) VALUES(?,?,?,?,?)", p.Table, p.Row, p.Host, p.Reason, p.Serving)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.unrecorded = true // the write lock may be somebody else's; the next upkeep tries again
		s.options.log().Debug("rule_errors", slog.Any("error", err))
	}
}

// sameProblems reports whether rule_errors says so already.
func (s *Store) sameProblems(ctx context.Context, problems []rules.Problem) bool {
	var stored []rules.Problem
	err := each(ctx, s.conn, "SELECT tbl, row, host, reason, serving_last FROM rule_errors ORDER BY rowid", func(rows *sql.Rows) error {
		var p rules.Problem
		err := rows.Scan(&p.Table, &p.Row, &p.Host, &p.Reason, &p.Serving)
		stored = append(stored, p)
		return err
	})
	return err == nil && slices.Equal(stored, problems)
}
