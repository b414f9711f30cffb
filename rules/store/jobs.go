package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"cutover/rules"
)

// A job is long work beside the owner, one at a time: comparing the tables with what serves, or writing the snapshot.

// jobDone is what a job found.
type jobDone struct {
	from       loaded      // what was published when it began
	fresh      loaded      // of a comparison: everything as the tables have it
	differs    bool        // of a comparison: that is not what was published
	isSave     bool        // of a snapshot
	isTakeBack bool        // of an import that is taken back
	folded     *rules.View // of a snapshot: from's view in one table
	err        error
}

const (
	foldAt   = 2000        // places that changed: from here on, looking them up costs more than folding
	maxDirty = time.Minute // how long the snapshot may be out of date while edits go on
)

// startJob starts what is due, unless a job runs.
func (o *owner) startJob() {
	if o.stopJob != nil {
		return
	}
	from := o.published()
	if !o.holding().none() {
		if o.importEnded.Load() {
			o.run(func(ctx context.Context) jobDone { return o.compare(ctx, from) })
		}
		return // what is held back must come into no snapshot, and into no comparison
	}
	switch now := o.options.now(); {
	case o.verify && now.Sub(o.verified) >= pauseFor(from.view, 10*time.Second):
		o.verify, o.verified = false, now
		o.run(func(ctx context.Context) jobDone { return o.compare(ctx, from) })
	case o.writer.Load() && o.snapshotDue(now, from.view):
		o.dirty, o.saving = time.Time{}, true
		o.run(func(context.Context) jobDone { return o.save(from) })
	}
}

// snapshotDue reports whether the snapshot should be written: soon after the last edit, later where there is more to
// write; not for ever later while edits go on.
func (o *owner) snapshotDue(now time.Time, view *rules.View) bool {
	if o.dirty.IsZero() {
		return false
	}
	return now.Sub(o.editedAt) >= pauseFor(view, 30*time.Second) || now.Sub(o.dirty) >= maxDirty || view.Pending() >= foldAt
}

// pauseFor returns how long to rest between jobs that go through all rules: the given time for a million.
func pauseFor(view *rules.View, million time.Duration) time.Duration {
	counts := view.Counts()
	return min(million, million/1_000_000*time.Duration(counts.Rules+counts.Redirects))
}

func (o *owner) run(work func(context.Context) jobDone) {
	ctx, cancel := context.WithCancel(context.Background())
	o.stopJob = cancel
	go func() { o.jobs <- work(ctx) }()
}

// compare reads everything through a connection of its own.
func (s *Store) compare(ctx context.Context, from loaded) jobDone {
	done := jobDone{from: from}
	done.err = s.readAside(ctx, func(q queryer) (err error) {
		if err := s.checkNotHeld(ctx, q); err != nil { // it has begun meanwhile
			return err
		}
		done.fresh, err = load(ctx, q, from.view, &s.options)
		return err
	})
	if done.err == nil && done.fresh.mark == from.mark {
		n, some := rules.Difference(from.view, done.fresh.view)
		done.differs = n > 0
		if done.differs {
			s.options.log().Warn("rules.db held what the journal does not say; it is in force now", slog.Int("places", n), slog.Any("some", some))
		}
	}
	return done
}

// save writes the snapshot.
func (s *Store) save(from loaded) jobDone {
	done := jobDone{from: from, isSave: true}
	if done.folded, done.err = from.view.Folded(); done.err == nil {
		done.err = saveSnapshot(s.options.Dir, loaded{done.folded, from.mark})
	}
	return done
}

// jobEnded puts what a job found in force, with what has changed meanwhile.
func (o *owner) jobEnded(ctx context.Context, done jobDone) {
	o.stopJob()
	o.stopJob, o.saving = nil, false
	switch {
	case done.err != nil:
		o.jobFailed(done)
	case done.isTakeBack:
	case done.isSave:
		o.saved = done.from.mark
		o.rebase(done)
	default:
		o.adopt(ctx, done.fresh)
		if done.differs {
			o.markDirty()
		}
	}
}

// jobFailed makes known that the tables cannot be read, and lets what cannot be written wait.
func (o *owner) jobFailed(done jobDone) {
	o.options.log().Debug("a job of the rules", slog.Any("error", done.err))
	switch {
	case done.isSave:
		o.markDirty()
		return
	case done.isTakeBack: // the next upkeep tries again
		return
	}
	o.verify = true
	if o.loadFail == nil && !isBusy(done.err) && !errors.Is(done.err, errNoDatabase) && !errors.Is(done.err, errHeldBack) {
		o.loaded(done.err)
	}
}

// rebase lets what is published use the table that was made for the snapshot, if it stands on the same one as that.
func (o *owner) rebase(done jobDone) {
	last := o.Snapshot()
	if next, ok := last.View.Rebased(done.from.view, done.folded); ok {
		last.View = next
		o.snapshot.Store(&last)
	}
}

// adopt puts in force what a comparison has read, with what has changed since.
func (o *owner) adopt(ctx context.Context, fresh loaded) {
	if o.conn == nil || o.loadFail != nil {
		return
	}
	hold := o.holding() // an import that has begun since
	if o.importEnded.Load() {
		hold = held{}
	}
	last := o.published()
	err := o.refresh(ctx, func(q queryer) (followed, error) { return follow(ctx, q, fresh, hold) })
	if errors.Is(err, errTooMany) || errors.Is(err, errDiscontinued) {
		o.verify, o.verified = true, time.Time{}
		return
	}
	o.loaded(err)
	o.edited(last.mark)
	if err == nil && o.importEnded.CompareAndSwap(true, false) { // no comparison is begun while an import is held, but for its end
		o.heldImport.Store(nil)
		o.markDirty()
	}
}

// edited notes that the snapshot is out of date if the journal has gone on.
func (o *owner) edited(before mark) {
	if o.published().mark != before {
		o.markDirty()
	}
}

func (o *owner) markDirty() {
	o.editedAt = o.options.now()
	if o.dirty.IsZero() {
		o.dirty = o.editedAt
	}
}

// end waits for the job that runs and writes the snapshot if it is out of date.
func (o *owner) end() {
	if o.stopJob != nil {
		o.stopJob()
		<-o.jobs
	}
	if o.dirty.IsZero() || !o.holding().none() || !o.writer.Load() {
		return
	}
	if done := o.save(o.published()); done.err != nil {
		o.options.log().Debug("the snapshot", slog.Any("error", done.err))
	}
}
