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
	Log          *slog.Logger     // nil discards
	PollInterval time.Duration    // how often to look for edits from outside; 0 means 5 ms
	Now          func() time.Time // nil means time.Now
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
	Rows     rules.Rows      // as they stand in the tables, bad and disabled ones included
	Problems []rules.Problem // why rows are not served as they are written
	LoadedAt time.Time
	LastEdit time.Time // of the newest change in the journal; zero without one
	Seq      int64     // of that change
}

// Store owns the rules. Its methods may be called by any number of goroutines.
type Store struct {
	options  Options
	path     string
	lock     *os.File
	db       *sql.DB
	conn     *sql.Conn // the one connection, used by the owner alone once Run has begun; nil while the file cannot be opened
	identity identity
	saved    *rules.View // what the last good rules were written from; the owner's alone
	version  int64       // PRAGMA data_version at the last load; the owner's alone
	programs int64       // PRAGMA schema_version when triggers and views were last looked at; the owner's alone

	unrecorded bool // rule_errors is not up to date; the owner's alone

	edits     gate        // shut while an import is written
	importing atomic.Bool // an import is under way

	requests chan *request
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
	return errors.Join(s.closeDatabase(), s.lock.Close())
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
	if err := s.edits.enter(ctx, editPatience); err != nil {
		return Result{}, err
	}
	defer s.edits.leave()
	r := &request{by: by, edits: edits, dryRun: dryRun, at: s.options.now(), gone: ctx.Done(), answer: make(chan answer, 1)}
	select {
	case s.requests <- r:
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-s.ended:
		return Result{}, errEnded
	}
	select {
	case a := <-r.answer:
		return a.result, a.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	case <-s.ended:
		select {
		case a := <-r.answer:
			return a.result, a.err
		default:
			return Result{}, errEnded
		}
	}
}

var errEnded = errors.New("the rules are no longer held by this process")

// request is a call of Apply on its way to the owner.
type request struct {
	by     Author
	edits  []Edit
	dryRun bool
	at     time.Time
	gone   <-chan struct{} // closed when nobody waits for the answer any more
	answer chan answer     // holds one, so that the owner never waits
}

// givenUp reports whether nobody waits for the answer: then the edits are not made, since nobody would learn of it.
func (r *request) givenUp() bool {
	select {
	case <-r.gone:
		return true
	default:
		return false
	}
}

type answer struct {
	result Result
	err    error
}
