package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"
)

const (
	defaultKeepChanges = 1_000_000
	defaultKeepFor     = 365 * 24 * time.Hour
	pruneAtOnce        = 1000 // changes that one call of prune deletes at most
)

func (o Options) keepChanges() int64 {
	if o.KeepChanges <= 0 {
		return defaultKeepChanges
	}
	return int64(o.KeepChanges)
}

func (o Options) keepFor() time.Duration {
	if o.KeepFor <= 0 {
		return defaultKeepFor
	}
	return o.KeepFor
}

// prune deletes the oldest changes that are too many or too old, some at a time, and returns how many it has deleted:
// pruneAtOnce says that there may be more. Neither change keepFrom nor any later one is deleted, nor the newest. It is
// the owner's alone. isBusy(err) means that the write lock is somebody else's.
func (s *Store) prune(ctx context.Context, keepFrom int64) (deleted int64, err error) {
	if s.readOnly.Load() {
		return 0, nil
	}
	last, err := s.lastPrunable(ctx, keepFrom)
	if err != nil || last == 0 {
		return 0, err
	}
	err = writing(ctx, s.conn, func(q queryer) error {
		done, err := q.ExecContext(ctx, "DELETE FROM changes WHERE seq<=?", last)
		if err != nil {
			return err
		}
		deleted, err = done.RowsAffected()
		return err
	})
	return deleted, err
}

// pruneSome is what is done every second: it never takes long. Nothing that the snapshot needs at a start is deleted.
func (o *owner) pruneSome(ctx context.Context) {
	if o.checkFile() != nil || o.saved.seq == 0 {
		return
	}
	for range 10 {
		n, err := o.prune(ctx, o.saved.seq)
		if err != nil {
			o.options.log().Debug("the journal is not pruned", slog.Any("error", err))
		}
		if err != nil || n < pruneAtOnce {
			return
		}
	}
}

var errEnough = errors.New("enough")

// lastPrunable returns the last of the oldest changes that may go, 0 for none. A change that must stay keeps all that
// come after it, so that the journal never has a hole.
func (s *Store) lastPrunable(ctx context.Context, keepFrom int64) (last int64, err error) {
	newest, err := newestSeq(ctx, s.conn)
	if err != nil {
		return 0, err
	}
	many, old := newest-s.options.keepChanges(), journalTime(s.options.now().Add(-s.options.keepFor()))
	err = each(ctx, s.conn, "SELECT seq, at FROM changes WHERE seq<? AND seq<? ORDER BY seq LIMIT ?", func(rows *sql.Rows) error {
		var seq int64
		var at string
		if err := rows.Scan(&seq, &at); err != nil {
			return err
		}
		if seq > many && at >= old {
			return errEnough
		}
		last = seq
		return nil
	}, keepFrom, newest, pruneAtOnce)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return last, err
}
