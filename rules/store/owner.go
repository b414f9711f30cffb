package store

import (
	"context"
	"errors"
	"time"

	"cutover/rules"
)

const (
	maxBatch        = 256                    // edits that share one commit
	busyPatience    = 5 * time.Second        // how long an edit waits for somebody else's write lock
	checkpointEvery = time.Second            // also how often what failed is tried again
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
	o.begin()
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
			o.commit(context.WithoutCancel(ctx)) // what has begun is finished; so with poll and upkeep
		case <-poll.C:
			o.poll(context.WithoutCancel(ctx))
		case <-upkeep.C:
			o.upkeep(ctx)
		}
	}
}

// owner is what only the goroutine of Run knows.
type owner struct {
	*Store
	waiting   []*request // not yet committed: the write lock is somebody else's
	tryAt     time.Time  // not before: waiting is tried again
	statAt    time.Time  // not before: the path is looked at again
	fileFail  error      // of the last look at the path
	loadFail  error      // of the last load
	writeFail error      // of the last write that was not an edit's own fault
	retry     bool       // a failed load may be tried again
}

// begin takes over what Open found.
func (o *owner) begin() {
	if o.conn == nil {
		o.loadFail = &explained{errors.New(o.health.Load().Problem)}
	}
	o.report()
}

// report makes known what is wrong, the worst first.
func (o *owner) report() {
	switch {
	case o.fileFail != nil:
		o.noteProblem(o.fileFail, true)
	case o.loadFail != nil:
		o.noteProblem(plainError(o.loadFail), true)
	case o.writeFail != nil:
		o.noteProblem(plainError(o.writeFail), false)
	case o.readOnly.Load():
		o.noteProblem(errNewerWriter, true)
	default:
		o.noteProblem(nil, false)
	}
}

// upkeep is what is done every second.
func (o *owner) upkeep(ctx context.Context) {
	o.retry = true
	if o.conn == nil {
		if err := o.openDatabase(ctx); ctx.Err() == nil {
			o.loadFail = err
			o.report()
		}
		return
	}
	ctx = context.WithoutCancel(ctx)
	o.checkpoint(ctx)
	o.saveLastGood()
	o.tryWriting(ctx)
	o.mend(ctx)
	if o.unrecorded {
		o.recordProblems(ctx, o.Snapshot().Problems)
	}
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
		r.answer <- err
	}
	o.waiting = nil
}

// poll looks for edits from outside, for a file that was replaced, and for rules whose time has come.
func (o *owner) poll(ctx context.Context) {
	now := o.options.now()
	if len(o.waiting) > 0 && !now.Before(o.tryAt) {
		o.commit(ctx)
	}
	if !now.Before(o.statAt) && o.conn != nil {
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
		o.loaded(err)
	case o.loadFail != nil && o.retry, o.loadFail == nil && version != o.version:
		o.retry = false
		o.loaded(o.reload(ctx))
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
	err := o.checkFile()
	if (err != nil) != (o.fileFail != nil) {
		o.fileFail = err
		o.report()
	}
}

// loaded notes the outcome of a load: nil says that it went well.
func (o *owner) loaded(err error) {
	o.loadFail = err
	o.report()
}
