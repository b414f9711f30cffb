package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cutover/rules"
)

const (
	maxBatch        = 256                    // edits that share one commit
	busyPatience    = 5 * time.Second        // how long an edit waits for somebody else's write lock
	checkpointEvery = time.Second            // also how often a failed load is tried again
	busyRetry       = 20 * time.Millisecond  // between attempts at the write lock
	statEvery       = 100 * time.Millisecond // between looks at the path
)

// Run is the owner of the rules: it blocks until ctx ends. It must be called once.
func (s *Store) Run(ctx context.Context) error {
	defer close(s.ended)
	o := owner{Store: s}
	poll := time.NewTicker(s.options.pollInterval())
	defer poll.Stop()
	upkeep := time.NewTicker(checkpointEvery)
	defer upkeep.Stop()
	for {
		s.beat.Store(s.options.now().UnixNano())
		select {
		case <-ctx.Done():
			o.refuse(errEnded)
			s.saveLastGood()
			return nil
		case r := <-s.requests:
			o.waiting = append(o.waiting, r)
			o.gather()
			o.commit(ctx)
		case <-poll.C:
			o.poll(ctx)
		case <-upkeep.C:
			o.upkeep(ctx)
		}
	}
}

// owner is what only the goroutine of Run knows.
type owner struct {
	*Store
	waiting  []*request // not yet committed: the write lock is somebody else's
	tryAt    time.Time  // not before: waiting is tried again
	statAt   time.Time  // not before: the path is looked at again
	loadFail error      // of the last load
	retry    bool       // a failed load may be tried again
}

// upkeep is what is done every second.
func (o *owner) upkeep(ctx context.Context) {
	o.retry = true
	if o.conn == nil {
		o.failed(o.openDatabase(ctx))
		return
	}
	o.checkpoint(ctx)
	o.saveLastGood()
}

// gather takes what else is queued, so that it shares one commit.
func (o *owner) gather() {
	for len(o.waiting) < maxBatch {
		select {
		case r := <-o.requests:
			o.waiting = append(o.waiting, r)
		default:
			return
		}
	}
}

func (o *owner) refuse(err error) {
	for _, r := range o.waiting {
		r.answer <- answer{err: err}
	}
	o.waiting = nil
}

// poll looks for edits from outside, for a file that was replaced, and for rules whose time has come.
func (o *owner) poll(ctx context.Context) {
	now := o.options.now()
	if len(o.waiting) > 0 && !now.Before(o.tryAt) {
		o.commit(ctx)
	}
	if !now.Before(o.statAt) {
		o.statAt = now.Add(statEvery)
		o.lookAtFile()
	}
	if due := o.Load().NextChange(); !due.IsZero() && !now.Before(due) {
		o.republish()
	}
	if o.conn == nil {
		return
	}
	version, err := o.dataVersion(ctx)
	switch {
	case err != nil:
		o.failed(err)
	case o.loadFail != nil && o.retry, o.loadFail == nil && version != o.version:
		o.retry = false
		o.failed(o.reload(ctx))
	}
}

// republish lets rules start and end at their time, whether the database can be read or not.
func (s *Store) republish() {
	last := s.Snapshot()
	view, problems := rules.Compile(last.Rows, last.View, s.options.now())
	last.View, last.Problems, last.LoadedAt = view, problems, s.options.now()
	s.snapshot.Store(&last)
}

// lookAtFile makes a replaced file known, or that the right one is back.
func (o *owner) lookAtFile() {
	if o.conn == nil {
		return
	}
	err := o.checkFile()
	replaced := o.health.Load().Problem == errReplaced.Error()
	if (err != nil) != replaced {
		o.noteProblem(err, err != nil)
	}
}

// failed notes the outcome of a load: nil says that it went well.
func (o *owner) failed(err error) {
	if err == nil && o.loadFail == nil && o.health.Load().Problem == "" {
		return
	}
	o.loadFail = err
	if o.health.Load().Problem != errReplaced.Error() {
		o.noteProblem(plainError(err), err != nil)
	}
}

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
	problems := s.publish(l)
	s.recordProblems(ctx, problems)
	return nil
}

// loadChecked reads the rows, unless a newer program forbids it.
func (s *Store) loadChecked(ctx context.Context, q queryer) (loaded, error) {
	generation, err := schemaGeneration(ctx, q)
	if err != nil {
		return loaded{}, err
	}
	if generation > rules.Schema {
		if err := checkReader(ctx, q); err != nil {
			return loaded{}, err
		}
		var least int
		if err := q.QueryRowContext(ctx, "SELECT CAST(value AS INTEGER) FROM meta WHERE key='min_writer'").Scan(&least); err != nil {
			return loaded{}, err
		}
		s.readOnly.Store(least > rules.Schema)
	}
	return load(ctx, q)
}

// publish makes rows the rules in force, all at once, and returns what is wrong with them.
func (s *Store) publish(l loaded) []rules.Problem {
	var last *rules.View
	if snapshot := s.snapshot.Load(); snapshot != nil {
		last = snapshot.View
	}
	view, problems := rules.Compile(l.rows, last, s.options.now())
	s.snapshot.Store(&Snapshot{View: view, Rows: l.rows, Problems: problems, LoadedAt: s.options.now(), LastEdit: l.lastEdit, Seq: l.seq})
	for _, p := range problems {
		s.options.log().Warn("a row is not served as it is written", slog.String("table", p.Table), slog.String("row", p.Row),
			slog.String("host", p.Host), slog.String("reason", p.Reason), slog.Bool("last good version serves", p.Serving))
	}
	return problems
}

// commit makes the waiting edits in one transaction, publishes, then acknowledges.
func (o *owner) commit(ctx context.Context) {
	if err := o.writable(); err != nil {
		o.refuse(err)
		return
	}
	batch := o.waiting
	var l loaded
	var answers []answer
	err := writing(ctx, o.conn, func(q queryer) (err error) {
		l, answers, err = o.applyBatch(ctx, q, batch)
		return err
	})
	if isBusy(err) {
		o.waitForLock(err)
		return
	}
	o.waiting = nil
	if err != nil {
		o.answerFailed(batch, plainError(err))
		return
	}
	problems := o.publish(l)
	for i, r := range batch {
		r.answer <- answers[i]
	}
	o.recordProblems(ctx, problems)
}

func (o *owner) writable() error {
	if o.readOnly.Load() {
		return errors.New("a newer cutover has taken the database over; this one only reads it: use the newer one's command")
	}
	return o.checkFile()
}

// waitForLock keeps the edits for another attempt, and answers those that have waited long enough.
func (o *owner) waitForLock(cause error) {
	now := o.options.now()
	o.tryAt = now.Add(busyRetry)
	kept := o.waiting[:0]
	for _, r := range o.waiting {
		if now.Sub(r.at) < busyPatience {
			kept = append(kept, r)
			continue
		}
		r.answer <- answer{err: fmt.Errorf("the database is locked%s; end its transaction with COMMIT or ROLLBACK, then try again: %w", lockHolder(o.path), cause)}
	}
	o.waiting = kept
}

func (o *owner) answerFailed(batch []*request, err error) {
	o.noteProblem(err, false)
	o.loadFail, o.retry = err, false // the next upkeep looks whether it is well again
	for _, r := range batch {
		r.answer <- answer{err: err}
	}
}

// applyBatch makes each request's edits in a savepoint of its own, so that one that fails takes none with it, and
// reads what will be in force. An error is the whole batch's.
func (o *owner) applyBatch(ctx context.Context, q queryer, batch []*request) (loaded, []answer, error) {
	answers := make([]answer, len(batch))
	for i, r := range batch {
		if _, err := q.ExecContext(ctx, "SAVEPOINT request"); err != nil {
			return loaded{}, nil, err
		}
		result, err := applyEdits(ctx, q, r)
		answers[i] = answer{result, err}
		if err != nil && !errors.As(err, new(*EditError)) {
			return loaded{}, nil, err
		}
		if err != nil || r.dryRun {
			if _, err := q.ExecContext(ctx, "ROLLBACK TO request"); err != nil {
				return loaded{}, nil, err
			}
		}
		if _, err := q.ExecContext(ctx, "RELEASE request"); err != nil {
			return loaded{}, nil, err
		}
	}
	l, err := o.loadChecked(ctx, q)
	return l, answers, err
}

// recordProblems writes what is wrong into rule_errors, for readers at the prompt. It is a help: failing is no fault.
func (s *Store) recordProblems(ctx context.Context, problems []rules.Problem) {
	if s.readOnly.Load() || s.sameProblems(ctx, problems) {
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
	if err != nil || len(stored) != len(problems) {
		return false
	}
	for i := range stored {
		if stored[i] != problems[i] {
			return false
		}
	}
	return true
}
