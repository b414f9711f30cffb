package store

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	"cutover/rules"
)

func (s *Store) dataVersion(ctx context.Context) (version int64, err error) {
	err = s.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	return version, err
}

// reload reads everything in one transaction and publishes it.
func (s *Store) reload(ctx context.Context) error {
	version, err := s.dataVersion(ctx)
	if err != nil {
		return err
	}
	var l loaded
	err = reading(ctx, s.conn, func(q queryer) (err error) {
		l, err = s.loadChecked(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	// What was committed between the look at the version and the read is loaded once more; nothing is missed.
	s.version = version
	s.publish(ctx, l)
	return nil
}

var errNewerWriter = errors.New("a newer cutover has taken the database over; this one only reads it: use the newer one's command")

// loadChecked reads the rows, unless a newer program forbids it, and notes whether they may be written.
func (s *Store) loadChecked(ctx context.Context, q queryer) (loaded, error) {
	generation, err := schemaGeneration(ctx, q)
	if err != nil {
		return loaded{}, err
	}
	if err := checkReader(ctx, q, generation); err != nil {
		return loaded{}, err
	}
	least, err := leastGeneration(ctx, q, "min_writer")
	if err != nil {
		return loaded{}, err
	}
	l, err := load(ctx, q)
	if err == nil {
		s.readOnly.Store(least > rules.Schema)
	}
	return l, err
}

// publish makes rows the rules in force, all at once, and says what changed and what is wrong with them.
func (s *Store) publish(ctx context.Context, l loaded) {
	s.logChanges(ctx, s.publishView(l), l.seq)
	s.recordProblems(ctx, s.Snapshot().Problems)
}

// publishView makes rows the rules in force, and returns what was before; nil at first.
func (s *Store) publishView(l loaded) *Snapshot {
	last := s.snapshot.Load()
	known := Snapshot{}
	if last != nil {
		known = *last
	}
	if l.rows.Lineage == "" {
		l.rows.Lineage = known.Rows.Lineage // else every visitor would change sides
	}
	view, problems := rules.Compile(l.rows, known.View, s.options.now())
	s.snapshot.Store(&Snapshot{View: view, Rows: l.rows, Problems: problems, LoadedAt: s.options.now(), LastEdit: l.lastEdit, Seq: l.seq})
	for _, p := range problems {
		if slices.Contains(known.Problems, p) {
			continue // it was said
		}
		s.options.log().Warn("a row is not served as it is written", slog.String("table", p.Table), slog.String("row", p.Row),
			slog.String("host", p.Host), slog.String("reason", p.Reason), slog.Bool("last good version serves", p.Serving))
	}
	return last
}
