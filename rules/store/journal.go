package store

import (
	"context"
	"database/sql"
	"log/slog"
)

const maxLogged = 20 // changes that are logged one by one

// logChanges says what changed since the rules that were in force before, whoever did it. What is in the journal is
// there to be read; the log needs the first few and a number.
func (s *Store) logChanges(ctx context.Context, last *Snapshot, seq int64) {
	if last == nil || last.Seq == seq {
		return
	}
	if seq < last.Seq {
		s.options.log().Warn("the journal went back: a backup was restored", slog.Int64("from", last.Seq), slog.Int64("to", seq))
		return
	}
	query := "SELECT author, tbl, row, op, coalesce(host, old_host, '') FROM changes WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
	err := each(ctx, s.conn, query, func(rows *sql.Rows) error {
		var author, table, row, op, host string
		err := rows.Scan(&author, &table, &row, &op, &host)
		s.options.log().Info("rules changed", slog.String("author", author), slog.String("op", op), slog.String("table", table),
			slog.String("row", row), slog.String("host", host))
		return err
	}, last.Seq, seq, maxLogged)
	if err != nil {
		s.options.log().Debug("journal", slog.Any("error", err))
	}
	if more := seq - last.Seq - maxLogged; more > 0 {
		s.options.log().Info("more rules changed", slog.Int64("changes", more))
	}
}
