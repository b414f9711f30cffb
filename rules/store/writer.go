package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Store is the writer of its database, of which there is one at a time, or a follower, which reads what the writer does. The
// place of the writer goes from one process to another by Demote in the one and Promote in the other.

// ErrNotWriter says that another process is the writer: nothing was changed.
var ErrNotWriter = errors.New("another process holds the rules now")

// ErrNeedsWriter says that the database cannot be followed, since it is not there, or has to be changed first.
var ErrNeedsWriter = errors.New("the database has to be brought up to date before it can be read")

// ErrBusyWriting says that the writer cannot give its place up, since it is in the middle of something long.
var ErrBusyWriting = errors.New("an import, the taking back of one, or a snapshot is under way")

// roleChange asks the owner to become the writer or a follower.
type roleChange struct {
	promote bool
	answer  chan error // holds one, so that the owner never waits
}

const roleAgain = 5 * time.Millisecond // between attempts at a change of role

// IsWriter reports whether this process is the writer.
func (s *Store) IsWriter() bool { return s.writer.Load() }

// Promote makes a follower the writer, as soon as nobody else is; all that was committed before is in force when it returns.
// After an error, such as that of ctx, it is a follower still. Run must be under way.
func (s *Store) Promote(ctx context.Context) error {
	return s.changeRole(ctx, true, ErrLocked)
}

// Demote makes the writer a follower, whose place another process can take. What has been acknowledged is on disk; edits that
// wait are told ErrNotWriter. An import and a snapshot come to their end first; ErrBusyWriting says that ctx ended before
// that, and that the Store is the writer still. Run must be under way.
func (s *Store) Demote(ctx context.Context) error {
	s.leaving.Store(true)
	defer s.leaving.Store(false)
	return s.changeRole(ctx, false, ErrBusyWriting)
}

// changeRole asks the owner again and again while it says that it has to wait.
func (s *Store) changeRole(ctx context.Context, promote bool, wait error) error {
	var last error // why it had to wait so far
	for {
		change := roleChange{promote, make(chan error, 1)}
		select {
		case s.roles <- change:
		case <-s.ended:
			return errEnded
		case <-ctx.Done():
			return errors.Join(last, ctx.Err())
		}
		if last = <-change.answer; !errors.Is(last, wait) { // the owner answers what it has taken
			return last
		}
		if rest(ctx, roleAgain) != nil {
			return errors.Join(last, ctx.Err())
		}
	}
}

func (o *owner) changeRole(ctx context.Context, change roleChange) {
	switch {
	case change.promote == o.writer.Load():
		change.answer <- nil
	case change.promote:
		change.answer <- o.promote(ctx)
	default:
		change.answer <- o.demote(ctx)
	}
}

// promote takes the lock, brings the database up to date and reads what is new in it.
func (o *owner) promote(ctx context.Context) error {
	lock, err := takeLock(o.options.Dir)
	if err != nil {
		return err
	}
	if o.conn == nil { // as at a start: the last good rules serve, and the next upkeep tries to open it again
		o.lock = lock
		o.writer.Store(true)
		return nil
	}
	if err = o.takeUpWriting(ctx); err != nil {
		_, stopped := o.conn.ExecContext(ctx, followPragmas)
		return errors.Join(err, stopped, lock.Close())
	}
	o.lock = lock
	o.writer.Store(true)
	o.verify = o.verify || o.thawed
	o.recordProblems(ctx)
	o.options.log().Info("this process holds the rules")
	return nil
}

func (o *owner) takeUpWriting(ctx context.Context) error {
	if err := o.checkFile(); err != nil {
		return err
	}
	if _, err := o.conn.ExecContext(ctx, "PRAGMA query_only=OFF"); err != nil {
		return err
	}
	if err := o.prepare(ctx); err != nil {
		return err
	}
	if err := o.followHeld(ctx, o.conn); err != nil {
		return err
	}
	err := o.followOthers(ctx)
	o.loaded(err)
	return errors.Join(err, o.noteFile())
}

// followPragmas keep a connection from writing anything.
const followPragmas = "PRAGMA query_only=ON; PRAGMA wal_autocheckpoint=0"

// demote gives the place of the writer up.
func (o *owner) demote(ctx context.Context) error {
	if o.importing.Load() || o.importEnded.Load() || !o.holding().none() || o.saving { // the next writer writes to the same file
		return ErrBusyWriting
	}
	if o.conn != nil {
		if _, err := o.conn.ExecContext(ctx, followPragmas); err != nil {
			return fmt.Errorf("stop writing: %w", err)
		}
	}
	o.leftCheckpoints = false
	o.writer.Store(false)
	o.refuse(ErrNotWriter)
	err := o.lock.Close()
	o.lock = nil
	o.options.log().Info("this process no longer holds the rules")
	return err
}

// followHeld notices that the writer begins to hold an import back, and that it ends.
func (s *Store) followHeld(ctx context.Context, q queryer) error {
	h, err := readHeld(ctx, q)
	if err != nil {
		return err
	}
	if last := s.holding(); !last.none() && h.none() {
		s.importEnded.Store(true)
		return nil
	}
	s.heldImport.Store(&h)
	return nil
}

// prepareFollowing sets a connection up that writes nothing. ErrNeedsWriter says that somebody has to.
func (s *Store) prepareFollowing(ctx context.Context) error {
	if _, err := s.conn.ExecContext(ctx, "PRAGMA trusted_schema=OFF; "+followPragmas); err != nil {
		return err
	}
	current, err := isCurrent(ctx, s.conn)
	if err == nil && !current {
		return ErrNeedsWriter
	}
	return err
}
