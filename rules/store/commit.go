package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// commit does the waiting work in one transaction, publishes, then acknowledges.
func (o *owner) commit(ctx context.Context) {
	if err := o.writable(); err != nil {
		o.refuse(err)
		return
	}
	o.waiting = slices.DeleteFunc(o.waiting, (*request).givenUp)
	batch := o.waiting
	if len(batch) == 0 {
		o.editsWait.Store(false)
		return
	}
	o.shareCheckpoints(ctx)
	var f followed
	var answers []error
	err := errCareful
	for careful := false; errors.Is(err, errCareful); careful = true {
		err = writing(ctx, o.conn, func(q queryer) (err error) {
			f, answers, err = o.applyBatch(ctx, q, batch, careful)
			return err
		})
	}
	o.editsWait.Store(isBusy(err))
	if isBusy(err) {
		o.waitForLock(err)
		return
	}
	o.waiting = nil
	if err != nil {
		o.answerFailed(batch, plainError(err))
		return
	}
	last := o.published()
	o.show(f.loaded)
	for i, r := range batch {
		r.seq = f.mark.seq
		r.answer <- answers[i]
	}
	o.logProblems(last.view)
	o.logChanges(last.mark, f)
	o.recordProblems(ctx)
	o.edited(last.mark)
	if o.writeFail != nil {
		o.writeFail = nil
		o.report()
	}
}

// shareCheckpoints leaves checkpoints to an import while that writes, since it writes more than edits should wait for.
func (o *owner) shareCheckpoints(ctx context.Context) {
	leave := !o.holding().none()
	if leave == o.leftCheckpoints {
		return
	}
	pages := autoCheckpoint
	if leave {
		pages = 0
	}
	if _, err := o.conn.ExecContext(ctx, fmt.Sprintf("PRAGMA wal_autocheckpoint=%d", pages)); err == nil {
		o.leftCheckpoints = leave
	}
}

func (o *owner) writable() error {
	if !o.writer.Load() {
		return ErrNotWriter
	}
	if o.readOnly.Load() {
		return errNewerWriter
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
		o.writeFail = &explained{fmt.Errorf("%w%s; end its transaction with COMMIT or ROLLBACK, then try again: %w", ErrBusy, lockHolder(o.path), cause)}
		r.answer <- o.writeFail
	}
	if len(kept) < len(o.waiting) {
		o.report()
	}
	o.waiting = kept
}

func (o *owner) answerFailed(batch []*request, err error) {
	o.writeFail = err // the next upkeep looks whether it is well again
	o.report()
	for _, r := range batch {
		r.answer <- err
	}
}

// errCareful says that one of a batch was refused, so that the batch has to be done again with care.
var errCareful = errors.New("one of the batch was refused")

// applyBatch does each request's work, and reads what will be in force. An error is the whole batch's. With care each has a
// savepoint of its own, so that one that is refused takes none with it; without, which is faster, that is errCareful.
func (o *owner) applyBatch(ctx context.Context, q queryer, batch []*request, careful bool) (followed, []error, error) {
	answers := make([]error, len(batch))
	signed := ""
	for i, r := range batch {
		if r.givenUp() { // while the write lock was waited for
			answers[i] = context.Canceled
			continue
		}
		if r.by != "" && r.by != signed {
			if err := sign(ctx, q, r.by, ""); err != nil {
				return followed{}, nil, err
			}
		}
		signed = r.by
		var err error
		if answers[i], err = r.apply(ctx, q, careful || r.dryRun); err != nil {
			return followed{}, nil, err
		}
	}
	if _, err := q.ExecContext(ctx, "DELETE FROM change_context"); err != nil {
		return followed{}, nil, err
	}
	if err := o.checkGeneration(ctx, q); err != nil {
		return followed{}, nil, err
	}
	f, err := o.readOn(ctx, q, o.published())
	return f, answers, err
}

// apply does a request's work, or none of it. refused is the request's own fault, err the database's.
func (r *request) apply(ctx context.Context, q queryer, careful bool) (refused, err error) {
	if !careful {
		if refused, err = splitRefusal(r.work(ctx, q)); refused != nil {
			err = errCareful
		}
		return nil, err
	}
	if _, err := q.ExecContext(ctx, "SAVEPOINT request"); err != nil {
		return nil, err
	}
	if refused, err = splitRefusal(r.work(ctx, q)); err != nil {
		return nil, err
	}
	if refused != nil || r.dryRun {
		if _, err := q.ExecContext(ctx, "ROLLBACK TO request"); err != nil {
			return nil, err
		}
	}
	_, err = q.ExecContext(ctx, "RELEASE request")
	return refused, err
}

func splitRefusal(problem error) (refused, err error) {
	if problem == nil || isRefusal(problem) {
		return problem, nil
	}
	return nil, problem
}

// tryWriting finds out, after a write that failed, whether reading and writing work again.
func (o *owner) tryWriting(ctx context.Context) {
	if o.writeFail == nil || o.writable() != nil {
		return
	}
	if o.loadFail = o.reload(ctx); o.loadFail == nil {
		err := writing(ctx, o.conn, func(q queryer) error {
			_, err := q.ExecContext(ctx, "INSERT INTO change_context(author) VALUES('nobody'); DELETE FROM change_context")
			return err
		})
		if !isBusy(err) || !isBusy(o.writeFail) {
			o.writeFail = err
		}
	}
	o.report()
}
