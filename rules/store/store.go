// Package store holds the rules: one goroutine, the owner, keeps them in SQLite and publishes them as views.
//
// Open loads the rules and takes the lock that makes this process the only writer. Run is the owner. It commits the
// edits that Apply sends, publishes the new view, then acknowledges; it also notices, within milliseconds, what
// somebody else commits with the sqlite3 program. Load never waits for it: it is one atomic read.
//
// Whatever happens to the file, the rules that were good last go on serving. Health says what is wrong.
package store

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"cutover/rules"
)

// File is the name of the database in the state directory.
const File = "rules.db"

// Options says where the rules are.
type Options struct {
	Dir          string           // the state directory; made if it is missing
	Follow       bool             // read only what another process writes; see Promote
	LockPatience time.Duration    // how long Open waits for another process to let go of the rules; 0 for not at all
	Log          *slog.Logger     // nil discards
	PollInterval time.Duration    // how often to look for edits from outside; 0 means 5 ms
	Now          func() time.Time // nil means time.Now
	KeepChanges  int              // how many changes the journal keeps at most; 0 means a million
	KeepFor      time.Duration    // how long it keeps them at most; 0 means 365 days
	// RefuseTarget returns why a target must not serve in this process, such as one that leads back to it: its row is set aside as
	// one that makes no sense. It is called wherever upstreams are read, and must not wait. nil refuses none.
	RefuseTarget func(*rules.Target) error
}

func (o Options) pollInterval() time.Duration {
	if o.PollInterval <= 0 {
		return 5 * time.Millisecond
	}
	return o.PollInterval
}

func (o Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

func (o Options) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

// Snapshot is what was published last.
type Snapshot struct {
	View     *rules.View
	Problems []rules.Problem // why rows are not served as they are written
	LoadedAt time.Time
	LastEdit time.Time // of the newest change in the journal; zero without one
	Seq      int64     // of that change
	nonce    int64     // of that change
}

// Store owns the rules. Its methods may be called by any number of goroutines.
type Store struct {
	options  Options
	path     string
	lock     *os.File    // of the writer; the owner's alone once Run has begun
	writer   atomic.Bool // this process is the writer
	leaving  atomic.Bool // and is about to give that up
	db       *sql.DB
	conn     *sql.Conn // the one connection, used by the owner alone once Run has begun; nil while the file cannot be opened
	identity identity
	reader   atomic.Pointer[sql.DB] // for reading beside the owner; nil while the file cannot be opened
	version  int64                  // PRAGMA data_version at the last load; the owner's alone
	programs int64                  // PRAGMA schema_version when triggers and views were last looked at; the owner's alone

	// What rule_errors says; the owner's alone.
	known      []rules.Problem
	recorded   bool // known is known
	unrecorded bool // and could not be written

	saved  mark // of the snapshot file; the owner's alone
	thawed bool // what was published first came from the snapshot: it has to be compared with the tables

	importing   atomic.Bool          // an import is under way
	heldImport  atomic.Pointer[held] // what is held back
	importEnded atomic.Bool          // it need not be any longer: everything has to be read
	editsWait   atomic.Bool          // for the write lock

	requests chan *request
	roles    chan roleChange
	backup   chan struct{} // holds one while a backup is made
	ended    chan struct{} // closed when Run returns
	beat     atomic.Int64  // when the owner last came round, in Unix nanoseconds

	snapshot atomic.Pointer[Snapshot]
	health   atomic.Pointer[Health]
	readOnly atomic.Bool // a newer program has put its mark on the file
}

// Load returns the view that is in force.
func (s *Store) Load() *rules.View { return s.snapshot.Load().View }

// Snapshot returns what was published last.
func (s *Store) Snapshot() Snapshot { return *s.snapshot.Load() }

// Close gives back the database and the lock. Call it when Run has returned, or was never called.
func (s *Store) Close() error {
	err := s.closeDatabase()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// Author is who makes an edit: what the journal says.
type Author struct {
	Name string // such as "root (uid 0)"
	Via  string // such as "cli"; may be empty
}

func (a Author) String() string {
	switch {
	case a.Name == "":
		return "unknown"
	case a.Via == "":
		return a.Name
	}
	return a.Name + " via " + a.Via
}

// Apply makes edits, all or none, in one transaction. It returns when they are committed and in force. With dryRun it
// returns what would be, and changes nothing. An edit that makes no sense is an *EditError. If ctx ends while the edits
// wait for the database they are not made; if it ends during the commit they may be.
func (s *Store) Apply(ctx context.Context, by Author, edits []Edit, dryRun bool) (Result, error) {
	var result Result
	r := s.newRequest(ctx, dryRun, func(ctx context.Context, q queryer) (err error) {
		result, err = applyEdits(ctx, q, edits)
		return err
	})
	r.by = by.String()
	seq, err := s.send(ctx, r)
	if err != nil {
		return Result{}, err
	}
	result.Seq = seq
	return result, nil
}

// ask has the owner do work in a transaction, and returns when it is committed and in force. With dryRun it is taken back
// instead. After an error nothing may be read that work has written: it may be under way still.
func (s *Store) ask(ctx context.Context, dryRun bool, work func(context.Context, queryer) error) (seq int64, err error) {
	return s.send(ctx, s.newRequest(ctx, dryRun, work))
}

func (s *Store) newRequest(ctx context.Context, dryRun bool, work func(context.Context, queryer) error) *request {
	return &request{work: work, dryRun: dryRun, at: s.options.now(), gone: ctx.Done(), answer: make(chan error, 1)}
}

func (s *Store) send(ctx context.Context, r *request) (seq int64, err error) {
	select {
	case s.requests <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.ended:
		return 0, errEnded
	}
	select {
	case err := <-r.answer:
		return r.seq, err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.ended:
		select {
		case err := <-r.answer:
			return r.seq, err
		default:
			return 0, errEnded
		}
	}
}

var errEnded = errors.New("the rules are no longer held by this process")

// request is work on its way to the owner.
type request struct {
	work   func(context.Context, queryer) error
	by     string // whom the journal names; empty where work says so itself
	dryRun bool
	at     time.Time
	gone   <-chan struct{} // closed when nobody waits for the answer any more
	answer chan error      // holds one, so that the owner never waits
	seq    int64           // of the newest change when it was answered without an error
}

// givenUp reports whether nobody waits for the answer: then it is not done, since nobody would learn of it.
func (r *request) givenUp() bool {
	select {
	case <-r.gone:
		return true
	default:
		return false
	}
}
