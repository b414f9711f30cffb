package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cutover/rules"
)

// open runs a store until the test ends.
func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func follower(t *testing.T, dir string) *Store {
	t.Helper()
	return open(t, Options{Dir: dir, Follow: true})
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func handOver(t *testing.T, from, to *Store) {
	t.Helper()
	if err := from.Demote(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := to.Promote(soon(t)); err != nil {
		t.Fatal(err)
	}
}

func TestAFollowerSeesWhatTheWriterAndSqlite3Do(t *testing.T) {
	dir := t.TempDir()
	writer := open(t, Options{Dir: dir})
	set(t, writer, map[string]any{"host": "before.test", "percent": 100})
	f := follower(t, dir)
	if version(f, "before.test") != rules.V2 || f.IsWriter() || !writer.IsWriter() {
		t.Error("a follower does not begin with what there is")
	}
	set(t, writer, map[string]any{"host": "a.test", "percent": 100})
	mustSqlite(t, dir, "INSERT INTO rules(host,percent) VALUES('b.test',100)")
	eventually(t, "both are followed", func() bool { return version(f, "a.test") == rules.V2 && version(f, "b.test") == rules.V2 })
	if problem := f.Health().Problem; problem != "" {
		t.Errorf("a follower has a problem: %s", problem)
	}
}

func TestAFollowerRefusesToChangeAnything(t *testing.T) {
	dir := t.TempDir()
	open(t, Options{Dir: dir})
	f := follower(t, dir)
	_, edit := f.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "a.test"}}}, false)
	_, imported := f.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: these()}, nil)
	_, undo := f.Undo(t.Context(), Author{}, []int64{1}, false)
	_, restore := f.Restore(t.Context(), Author{}, time.Now(), false)
	for i, err := range []error{edit, imported, undo, restore} {
		if !errors.Is(err, ErrNotWriter) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// contents returns every file of a folder with what is in it, but for the log's index, in which readers register.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(entry.Name(), "-shm") {
			fmt.Fprintf(&all, "%s %x\n", entry.Name(), text)
		}
	}
	return all.String()
}

func TestAFollowerWritesNothing(t *testing.T) {
	dir := t.TempDir()
	writer := open(t, Options{Dir: dir})
	set(t, writer, map[string]any{"host": "a.test", "percent": 100})
	mustSqlite(t, dir, "PRAGMA ignore_check_constraints=ON; INSERT INTO rules(host,percent) VALUES('bad.test',1000)") // a problem to record
	eventually(t, "the problem is known", func() bool { return len(writer.Snapshot().Problems) == 1 })
	if err := writer.Demote(soon(t)); err != nil { // nobody writes any more
		t.Fatal(err)
	}
	before := contents(t, dir)
	s, err := Open(t.Context(), Options{Dir: dir, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond) // two rounds of upkeep
	defer cancel()
	if err := errors.Join(s.Run(ctx), s.Close()); err != nil {
		t.Fatal(err)
	}
	if after := contents(t, dir); after != before {
		t.Errorf("files changed:\n%.300s\n%.300s", before, after)
	}
}

func TestNoEditIsLostOrDoubledWhileTheWriterChanges(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	a := open(t, Options{Dir: dir})
	b := follower(t, dir)
	var current atomic.Pointer[Store]
	current.Store(a)
	done := make(chan struct{})
	var editing sync.WaitGroup
	made := make([]int, 8)
	for i := range made {
		editing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				edit := []Edit{{Table: TableRules, Row: map[string]any{"host": fmt.Sprintf("h%d-%d.test", i, n), "percent": 100}}}
				_, err := current.Load().Apply(context.Background(), Author{Name: "editor"}, edit, false)
				for errors.Is(err, ErrNotWriter) {
					_, err = current.Load().Apply(context.Background(), Author{Name: "editor"}, edit, false)
				}
				if err != nil {
					t.Errorf("edit %d of %d: %v", n, i, err)
					return
				}
				made[i]++
			}
		})
	}
	for range 50 {
		handOver(t, a, b)
		current.Store(b)
		a, b = b, a
	}
	close(done)
	editing.Wait()
	total := 0
	for _, n := range made {
		total += n
	}
	if total < 50 {
		t.Errorf("only %d edits were made", total)
	}
	if got := mustSqlite(t, dir, "SELECT count(*), count(DISTINCT host) FROM changes; SELECT count(*) FROM rules"); got != fmt.Sprintf("%d|%d\n%d", total, total, total) {
		t.Errorf("%d edits were acknowledged; the journal and the table say %q", total, got)
	}
	expectTrue(t, a)
}

func TestAnImportComesToItsEndBeforeTheWriterGivesWay(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	demoted := make(chan error, 1)
	once := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := s.Demote(ctx); !errors.Is(err, ErrBusyWriting) || !s.IsWriter() {
			t.Errorf("while it goes on: %v", err)
		}
		go func() { demoted <- s.Demote(soon(t)) }()
	})
	result, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: manyRules(10_000)}, func(int) { once() })
	if err != nil || result.Added != 10_000 {
		t.Fatal(result, err)
	}
	if err := <-demoted; err != nil || s.IsWriter() {
		t.Errorf("when it is done: %v", err)
	}
}

func TestAFollowerHoldsAnImportBackAsTheWriterDoes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	f := follower(t, dir)
	result, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: manyRules(10_000)}, func(int) {
		if version(f, "h0.test") == rules.V2 {
			t.Error("the follower shows a part of the import")
		}
	})
	if err != nil || result.Added != 10_000 {
		t.Fatal(result, err)
	}
	eventually(t, "the import is in force there too", func() bool { return version(f, "h0.test") == rules.V2 && version(f, "h9999.test") == rules.V2 })
	handOver(t, s, f)
	expectTrue(t, f)
}

func TestAPromotionThatHasToWaitForTooLongLeavesAFollower(t *testing.T) {
	dir := t.TempDir()
	open(t, Options{Dir: dir})
	f := follower(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := f.Promote(ctx); !errors.Is(err, ErrLocked) || f.IsWriter() {
		t.Errorf("%v", err)
	}
}

func TestADatabaseThatHasToBeMadeOrMendedCannotBeFollowed(t *testing.T) {
	empty := t.TempDir()
	if _, err := Open(t.Context(), Options{Dir: empty, Follow: true}); !errors.Is(err, ErrNeedsWriter) {
		t.Errorf("without a database: %v", err)
	}
	if entries, _ := os.ReadDir(empty); len(entries) > 0 {
		t.Errorf("it made %v", entries)
	}
	dir := t.TempDir()
	if err := open(t, Options{Dir: dir}).Demote(soon(t)); err != nil {
		t.Fatal(err)
	}
	mustSqlite(t, dir, "DROP TRIGGER rules_ai")
	if _, err := Open(t.Context(), Options{Dir: dir, Follow: true}); !errors.Is(err, ErrNeedsWriter) {
		t.Errorf("with a trigger missing: %v", err)
	}
}

func TestTheLockSaysWhoIsTheWriter(t *testing.T) {
	dir := t.TempDir()
	a := open(t, Options{Dir: dir})
	b := follower(t, dir)
	for range 3 {
		handOver(t, a, b)
		a, b = b, a
		if text, err := os.ReadFile(filepath.Join(dir, "rules.lock")); err != nil || string(text) != fmt.Sprintln(os.Getpid()) {
			t.Errorf("%q, %v", text, err)
		}
	}
	if names := []bool{a.IsWriter(), b.IsWriter()}; !slices.Equal(names, []bool{true, false}) {
		t.Errorf("writers: %v", names)
	}
}

// Two processes that write the snapshot at once would write into one file.
func TestAWriterGivesNothingUpWhileItWritesTheSnapshot(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	pipe := filepath.Join(dir, snapshotFile+".new")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	edits := make([]Edit, 2500) // more than fits into a pipe
	for i := range edits {
		edits[i] = Edit{Table: TableRules, Row: map[string]any{"host": fmt.Sprintf("a%d.test", i), "percent": 50}}
	}
	if _, err := s.Apply(t.Context(), Author{Name: "tester"}, edits, false); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(pipe) // waits until it is being written
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := s.Demote(ctx); !errors.Is(err, ErrBusyWriting) || !s.IsWriter() {
		t.Errorf("%v; it is the writer: %v", err, s.IsWriter())
	}
	_ = reader.Close()
	if err := s.Demote(soon(t)); err != nil {
		t.Error(err)
	}
}

func TestAProcessThatCannotReadTheDatabaseTakesThePlaceAllTheSame(t *testing.T) {
	dir := t.TempDir()
	before, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- before.Run(ctx) }()
	set(t, before, map[string]any{"host": "a.test", "percent": 100})
	cancel() // writes the snapshot
	if err := errors.Join(<-ended, before.Close()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, File), make([]byte, len(good)), 0o600); err != nil {
		t.Fatal(err)
	}
	f := follower(t, dir)
	if err := f.Promote(soon(t)); err != nil || !f.IsWriter() || version(f, "a.test") != rules.V2 {
		t.Fatalf("%v, and the last good rules serve: %v", err, version(f, "a.test"))
	}
	if err := os.WriteFile(filepath.Join(dir, File), good, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the database is well again", func() bool { return f.Health().Problem == "" })
	set(t, f, map[string]any{"host": "b.test", "percent": 100})
}
