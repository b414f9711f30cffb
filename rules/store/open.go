package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"

	"cutover/rules"
)

// Open takes the lock, opens the database (making it if it is missing), brings its schema up to date and loads the
// first view. Nothing keeps running. The error is ErrLocked if another process holds the rules, and has for LockPatience.
//
// With Options.Follow it takes no lock and writes nothing, and another process may hold the rules; see Promote. The error is
// ErrNeedsWriter if the database cannot be read as it is.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	s := &Store{
		options: o, path: filepath.Join(o.Dir, File),
		requests: make(chan *request), roles: make(chan roleChange), backup: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	if !o.Follow {
		lock, err := awaitLock(ctx, &o)
		if err != nil {
			return nil, err
		}
		s.lock = lock
		s.writer.Store(true)
	}
	s.health.Store(&Health{})
	s.beat.Store(s.options.now().UnixNano())
	if err := s.openFirst(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.path, err), s.Close())
	}
	return s, nil
}

// openFirst opens the database and loads it. Where that cannot be done but a snapshot is at hand, the rules in it are
// served, and the owner tries again.
func (s *Store) openFirst(ctx context.Context) error {
	last, sound, err := readSnapshot(s.options.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.options.log().Warn("the snapshot of the rules cannot be used; they are read from the database", slog.Any("error", err))
	}
	if err == nil {
		last.view = last.view.At(s.options.now()).Refusing(s.options.RefuseTarget)
		s.show(last)
		s.thawed, s.saved = sound, last.mark
	}
	err = s.openDatabase(ctx)
	if err == nil || last.view == nil || errors.Is(err, errNewer) || errors.Is(err, errForeign) || errors.Is(err, ErrNeedsWriter) {
		return err
	}
	s.noteProblem(err, true)
	return nil
}

// openDatabase opens the database, brings its schema up to date and loads it. After an error nothing is open.
func (s *Store) openDatabase(ctx context.Context) error {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) && s.hadRules() {
		return errEmptied
	}
	prepare, note := s.prepare, s.noteFile
	if !s.writer.Load() {
		if _, err := os.Stat(s.path); err != nil {
			return errors.Join(ErrNeedsWriter, err)
		}
		prepare, note = s.prepareFollowing, func() error { return nil }
	} else {
		s.removeForeignLog()
	}
	err := s.connect(ctx)
	if err == nil {
		err = prepare(ctx)
	}
	if err == nil {
		s.identity, err = identify(s.path)
	}
	if err == nil {
		err = s.loadFirst(ctx)
	}
	if err == nil {
		err = note()
	}
	if err != nil {
		return errors.Join(plainError(err), s.closeDatabase())
	}
	return nil
}

// loadFirst follows the journal from the snapshot on, if that can be trusted; else it reads everything. What an import
// has written that was broken off is held back; where everything is read, it has to be taken back before.
func (s *Store) loadFirst(ctx context.Context) error {
	h, err := readHeld(ctx, s.conn)
	if err != nil {
		return err
	}
	s.heldImport.Store(&h)
	if s.thawed {
		err := s.refresh(ctx, func(q queryer) (followed, error) { return s.readOn(ctx, q, s.published()) })
		if !errors.Is(err, errHeldBack) {
			return err
		}
	}
	if !h.none() && !s.writer.Load() {
		return ErrNeedsWriter // read as a whole, the tables would show half of it
	}
	if !h.none() {
		s.options.log().Warn("an import was broken off; what it had written is taken back first")
		if err := s.takeBack(ctx, s.conn, h); err != nil {
			return err
		}
		s.heldImport.Store(nil)
	}
	return s.reload(ctx)
}

// hadRules reports whether anything that an operator decided is in force: then a database that is missing or empty is
// no first start, but a loss.
func (s *Store) hadRules() bool {
	last := s.published().view
	return last != nil && holdsDecisions(last)
}

func holdsDecisions(view *rules.View) bool {
	targets := slices.ContainsFunc(view.Upstreams(), func(u *rules.Upstream) bool { return len(u.Targets) > 0 })
	counts := view.Counts()
	return targets || counts.Rules+counts.Redirects+counts.Hosts+counts.Guards > 0
}

func (s *Store) connect(ctx context.Context) error {
	if err := createFile(s.path); err != nil {
		return err
	}
	var err error
	if s.db, err = sql.Open("sqlite3", dataSource(s.path, "rwc")); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(1)
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return err
	}
	reader, err := sql.Open("sqlite3", dataSource(s.path, "ro"))
	if err != nil {
		return err
	}
	reader.SetMaxOpenConns(4)
	s.reader.Store(reader)
	return nil
}

// closeDatabase closes what is open. If the path leads to another file by then, the log that stays behind belongs to the
// old one, and would be played into the new one by whoever opens that next: it is moved aside.
func (s *Store) closeDatabase() error {
	var problems []error
	foreign := s.conn != nil && s.identity.main != nil && errors.Is(s.checkFile(), errReplaced)
	if reader := s.reader.Swap(nil); reader != nil { // first: the last one to close empties the log, and cannot if it only reads
		problems = append(problems, reader.Close())
	}
	if s.conn != nil {
		problems = append(problems, s.conn.Close())
	}
	if s.db != nil {
		problems = append(problems, s.db.Close())
	}
	s.conn, s.db = nil, nil
	if foreign && s.writer.Load() {
		s.moveLogAside()
	}
	return errors.Join(problems...)
}

// createFile makes an empty database that only its owner can read; SQLite gives its other files the same mode. A file
// that is there is left alone, unopened: closing it would drop SQLite's own locks (POSIX locks are per process).
func createFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// dataSource names the database for the driver: durable before acknowledged (synchronous=FULL; the driver's default
// is NORMAL), and a busy wait so short that the owner still comes round.
func dataSource(path, mode string) string {
	query := url.Values{
		"mode": {mode}, "_mutex": {"no"}, // a connection is used by one goroutine at a time
		"_busy_timeout": {"10"}, "_synchronous": {"FULL"},
		"_cache_size": {"-8000"}, "_stmt_cache_size": {"64"}, // else each edit is parsed anew, triggers and all
	}
	if mode != "ro" {
		query.Set("_journal_mode", "WAL")
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode()
}

// autoCheckpoint is after how many pages of the log a commit of the owner checkpoints.
const autoCheckpoint = 600

// prepare sets the connection up and brings the schema up to date. A sqlite3 prompt may hold the write lock, so it
// tries for some seconds.
func (s *Store) prepare(ctx context.Context) error {
	for _, pragma := range []string{
		"PRAGMA trusted_schema=OFF",
		fmt.Sprintf("PRAGMA wal_autocheckpoint=%d", autoCheckpoint), // an older sqlite3 program must not be the one to checkpoint: 3.51.2 and older can lose pages
		"PRAGMA journal_size_limit=4194304",
	} {
		if _, err := s.conn.ExecContext(ctx, pragma); err != nil {
			return err
		}
	}
	deadline := time.Now().Add(busyPatience)
	for {
		changed, err := migrate(ctx, s.conn, !s.hadRules(), s.options.log())
		if changed {
			s.thawed = false // there may be changes that the journal does not have
		}
		if !isBusy(err) || time.Now().After(deadline) {
			return s.tolerate(ctx, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tolerate lets a start go on where the schema is the right one and only triggers could not be mended, since a sqlite3
// prompt holds the write lock: the rules can be read.
func (s *Store) tolerate(ctx context.Context, err error) error {
	if !isBusy(err) {
		return err
	}
	generation, other := schemaGeneration(ctx, s.conn)
	if other != nil || generation < rules.Schema {
		return err
	}
	s.options.log().Warn("triggers and views of rules.db are mended at the next start: another program holds the write lock", slog.String("holder", lockHolder(s.path)))
	return nil
}
