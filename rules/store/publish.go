package store

import (
	"context"
	"errors"
	"log/slog"

	"cutover/rules"
)

func (s *Store) dataVersion(ctx context.Context) (version int64, err error) {
	err = s.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	return version, err
}

var errNewerWriter = errors.New("a newer cutover has taken the database over; this one only reads it: use the newer one's command")

// checkGeneration returns an error if this program must not read the database, and notes whether it may write.
func (s *Store) checkGeneration(ctx context.Context, q queryer) error {
	generation, err := schemaGeneration(ctx, q)
	if err != nil {
		return err
	}
	if err := checkReader(ctx, q, generation); err != nil {
		return err
	}
	least, err := leastGeneration(ctx, q, "min_writer")
	if err == nil {
		s.readOnly.Store(least > rules.Schema)
	}
	return err
}

// refresh reads in one transaction with read, and publishes what that returns.
func (s *Store) refresh(ctx context.Context, read func(queryer) (followed, error)) error {
	version, err := s.dataVersion(ctx)
	if err != nil {
		return err
	}
	var f followed
	err = reading(ctx, s.conn, func(q queryer) (err error) {
		if err = s.checkGeneration(ctx, q); err == nil {
			f, err = read(q)
		}
		return err
	})
	if err != nil {
		return err
	}
	// What was committed between the look at the version and the read is read once more; nothing is missed.
	s.version = version
	s.publish(ctx, f)
	return nil
}

// reload reads everything and publishes it; while an import is held back, what has changed beside that.
func (s *Store) reload(ctx context.Context) error {
	return s.refresh(ctx, func(q queryer) (followed, error) {
		if s.holding().none() {
			return s.readAll(ctx, q)
		}
		return s.readOn(ctx, q, s.published())
	})
}

// readAll reads everything. The error is errHeldBack if that is not what is to be in force.
func (s *Store) readAll(ctx context.Context, q queryer) (followed, error) {
	if err := s.checkNotHeld(ctx, q); err != nil {
		return followed{}, err
	}
	l, err := load(ctx, q, s.published().view, &s.options)
	return followed{loaded: l}, err
}

// readOn reads what has changed since l, or everything where that cannot be told.
func (s *Store) readOn(ctx context.Context, q queryer, l loaded) (followed, error) {
	l.view = l.view.At(s.options.now())
	f, err := follow(ctx, q, l, s.holding())
	if errors.Is(err, errDiscontinued) || errors.Is(err, errTooMany) {
		s.options.log().Info("the rules are read anew", slog.Any("because", err))
		return s.readAll(ctx, q)
	}
	return f, err
}

// published returns what was published last; the zero value at first.
func (s *Store) published() loaded {
	last := s.snapshot.Load()
	if last == nil {
		return loaded{}
	}
	return loaded{last.View, mark{last.Seq, last.nonce, last.LastEdit}}
}

// publish makes a view the rules in force, all at once, and says what changed and what is wrong with them.
func (s *Store) publish(ctx context.Context, f followed) {
	last := s.published()
	s.show(f.loaded)
	s.logProblems(last.view)
	s.logChanges(last.mark, f)
	s.recordProblems(ctx)
}

// show makes a view the rules in force, all at once.
func (s *Store) show(l loaded) {
	s.snapshot.Store(&Snapshot{
		View: l.view, Problems: l.view.Problems(), LoadedAt: s.options.now(),
		LastEdit: l.mark.at, Seq: l.mark.seq, nonce: l.mark.nonce,
	})
}
