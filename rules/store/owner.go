package store

import (
	"context"
	"errors"
	"runtime"
	"time"
)

const (
	maxBatch        = 256                    // edits that share one commit
	busyPatience    = 5 * time.Second        // how long an edit waits for somebody else's write lock
	checkpointEvery = time.Second            // also how often what failed is tried again
	busyRetry       = 5 * time.Millisecond   // between attempts at the write lock
	statEvery       = 100 * time.Millisecond // between looks at the path
)

// Run is the owner of the rules: it blocks until ctx ends. It must be called once.
func (s *Store) Run(ctx context.Context) error {
	defer close(s.ended)
	o := owner{Store: s, jobs: make(chan jobDone, 1)}
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
			o.end()
			return nil
		case r := <-s.requests:
			o.waiting = append(o.waiting, r)
			runtime.Gosched()
			o.gather()
			o.commit(context.WithoutCancel(ctx)) // what has begun is finished; so with poll and upkeep
		case <-poll.C:
			o.poll(context.WithoutCancel(ctx))
		case change := <-o.roles:
			o.changeRole(context.WithoutCancel(ctx), change)
		case done := <-o.jobs:
			o.jobEnded(context.WithoutCancel(ctx), done)
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

	leftCheckpoints bool // to an import

	saving bool // the job that runs writes the snapshot

	jobs     chan jobDone       // what a job found
	stopJob  context.CancelFunc // of the job that runs; nil without one
	verify   bool               // the tables have to be compared with what serves
	verified time.Time          // when that was done last
	dirty    time.Time          // since when the snapshot is out of date; zero if it is not
	editedAt time.Time          // the last change
}

// begin takes over what Open found.
func (o *owner) begin() {
	o.verify = o.thawed
	o.verified = o.options.now()
	if !o.thawed {
		o.dirty, o.editedAt = o.verified, o.verified
	}
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
		o.leftCheckpoints = false
		if err := o.openDatabase(ctx); ctx.Err() == nil {
			o.loadFail = err
			o.report()
		}
		return
	}
	if !o.writer.Load() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	if o.holding().none() {
		o.checkpoint(ctx)
	}
	o.tryWriting(ctx)
	o.mend(ctx)
	o.pruneSome(ctx)
	if o.unrecorded {
		o.recordProblems(ctx)
	}
	o.verify, o.thawed = o.verify || o.thawed, false
	o.takeHeldBack()
	o.startJob()
}

// gather takes what else is queued, so that it shares one commit. It looks again as long as more comes: whoever has just
// been answered, and is about to ask for the next edit, only needs to be let run.
func (o *owner) gather() {
	for {
		before := len(o.waiting)
		o.takeQueued()
		if len(o.waiting) == before || len(o.waiting) >= maxBatch {
			return
		}
		runtime.Gosched()
	}
}

func (o *owner) takeQueued() {
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
	if o.Load().Due(now) {
		o.republish()
	}
	if o.conn == nil {
		return
	}
	if o.importEnded.Load() {
		o.startJob()
	}
	version, err := o.dataVersion(ctx)
	switch {
	case err != nil:
		o.loaded(err)
	case o.loadFail != nil && o.retry:
		o.retry = false
		o.loaded(o.reload(ctx))
	case o.loadFail == nil && version != o.version:
		o.loaded(o.followOthers(ctx))
	}
}

// republish lets rules start and end at their time, whether the database can be read or not.
func (s *Store) republish() {
	last := s.Snapshot()
	last.View = last.View.At(s.options.now())
	s.snapshot.Store(&last)
}

// followOthers publishes what somebody else has committed. A commit that is not in the journal, and one of very many
// changes, are found by a comparison with the tables in the background.
func (o *owner) followOthers(ctx context.Context) error {
	last := o.published()
	err := o.refresh(ctx, func(q queryer) (followed, error) {
		if !o.writer.Load() {
			if err := o.followHeld(ctx, q); err != nil {
				return followed{}, err
			}
		}
		f, err := follow(ctx, q, loaded{last.view.At(o.options.now()), last.mark}, o.holding())
		if errors.Is(err, errDiscontinued) {
			return o.readOn(ctx, q, last)
		}
		return f, err
	})
	if errors.Is(err, errTooMany) {
		o.verify, o.verified, err = true, time.Time{}, nil
		o.version = 0 // look again when that is done
		o.startJob()
	}
	if err == nil && o.published().mark == last.mark {
		o.verify = true
		o.startJob()
	}
	o.edited(last.mark)
	return err
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
