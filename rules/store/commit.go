package store

import (
	"context"
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
		return
	}
	var f followed
	var answers []error
	err := writing(ctx, o.conn, func(q queryer) (err error) {
		f, answers, err = o.applyBatch(ctx, q, batch)
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

func (o *owner) writable() error {
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

// applyBatch does each request's work in a savepoint of its own, so that one that fails takes none with it, and reads what
// will be in force. An error is the whole batch's.
func (o *owner) applyBatch(ctx context.Context, q queryer, batch []*request) (followed, []error, error) {
	answers := make([]error, len(batch))
	for i, r := range batch {
		if r.givenUp() { // while the write lock was waited for
			answers[i] = context.Canceled
			continue
		}
		if _, err := q.ExecContext(ctx, "SAVEPOINT request"); err != nil {
			return followed{}, nil, err
		}
		err := r.work(ctx, q)
		answers[i] = err
		if err != nil && !isRefusal(err) {
			return followed{}, nil, err
		}
		if err != nil || r.dryRun {
			if _, err := q.ExecContext(ctx, "ROLLBACK TO request"); err != nil {
				return followed{}, nil, err
			}
		}
		if _, err := q.ExecContext(ctx, "RELEASE request"); err != nil {
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
