package store

import (
	"log/slog"

	"cutover/rules"
)

const maxLogged = 100 // lines for one publication: an import must not drown the log

// logChanges says what is in force since a mark.
func (s *Store) logChanges(since mark, f followed) {
	if since.seq > f.mark.seq {
		s.options.log().Warn("the journal went back: a backup was restored", slog.Int64("from", since.seq), slog.Int64("to", f.mark.seq))
	}
	if !s.writer.Load() {
		return // the writer says so
	}
	for i, c := range f.changes {
		if i == maxLogged {
			s.options.log().Info("more rules changed: see cutover history", slog.Int("changes", len(f.changes)-maxLogged))
			return
		}
		host := c.host
		if host == "" {
			host = c.oldHost
		}
		s.options.log().Info("rules changed", slog.String("author", c.author), slog.String("op", c.op), slog.String("table", c.table),
			slog.String("row", c.row), slog.String("host", host))
	}
}

// logProblems says what is wrong with the rules in force, and was not before.
func (s *Store) logProblems(before *rules.View) {
	for i, p := range s.Load().ProblemsSince(before) {
		if i == maxLogged {
			s.options.log().Warn("more rows are not served as they are written: see cutover status")
			return
		}
		s.options.log().Warn("a row is not served as it is written", slog.String("table", p.Table), slog.String("row", p.Row),
			slog.String("host", p.Host), slog.String("reason", p.Reason), slog.Bool("last good version serves", p.Serving))
	}
}
