package store

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cutover/rules"
)

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func TestARestartWithoutTheDatabaseServesTheLastGoodRules(t *testing.T) {
	for name, lose := range map[string]func(string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			_, dir, stop := served(t)
			stop()
			path := filepath.Join(dir, File)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := lose(path); err != nil {
				t.Fatal(err)
			}
			if _, err := Check(t.Context(), dir); !errors.Is(err, errEmptied) {
				t.Errorf("the check before a deploy says %v", err)
			}
			s, _ := start(t, dir)
			expectServing(t, s, "put a backup back")
			if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false); err == nil {
				t.Error("an edit was acknowledged into nothing")
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			eventually(t, "healing", func() bool { return s.Health().Problem == "" })
			set(t, s, map[string]any{"host": "b.test"})
		})
	}
}

func TestWhoeverWantsNoRulesCanBeginAnew(t *testing.T) {
	_, dir, stop := served(t)
	stop()
	for _, name := range []string{File, snapshotFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := start(t, dir)
	if version(s, "a.test") != rules.V1 || s.Health().Problem != "" {
		t.Errorf("%s, %+v", version(s, "a.test"), s.Health())
	}
}

func TestAFullDiskIsReportedUntilItCanBeWrittenAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a small file system and needs root: run scripts/test.sh, or sudo")
	}
	dir := t.TempDir()
	if err := syscall.Mount("small", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s, _ := start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 100})
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for n := 0; s.Health().Problem == "" && n < 1000; n++ {
		_, _ = s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "a.test", "note": strings.Repeat("x", n%1000)}}}, false)
	}
	since := s.Health().Since
	for range 2 { // attempts at writing
		loaded := s.Snapshot().LoadedAt
		eventually(t, "another attempt", func() bool { return s.Snapshot().LoadedAt.After(loaded) })
	}
	if health := s.Health(); !strings.Contains(health.Problem, "disk is full") || !health.Since.Equal(since) {
		t.Errorf("while the disk is full since %v: %+v", since, health)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
}

func TestAnEditWhoseCallerHasGivenUpIsNotMadeLater(t *testing.T) {
	s, dir, _ := served(t)
	held, _ := prompt(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Apply(ctx, Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "given.up", "percent": 100}}}, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	set(t, s, map[string]any{"host": "b.test"})
	if version(s, "given.up") != rules.V1 {
		t.Error("it was made when the lock was gone")
	}
}

func TestReasonsReachThePromptWhenItsLockIsGone(t *testing.T) {
	_, dir, stop := served(t)
	stop()
	mustSqlite(t, dir, "PRAGMA ignore_check_constraints=1; UPDATE rules SET percent='333'")
	held, _ := prompt(t, dir)
	s, _ := start(t, dir)
	if n := len(s.Snapshot().Problems); n != 1 {
		t.Fatalf("%d problems", n)
	}
	if got := mustSqlite(t, dir, "SELECT reason FROM v_errors"); got != "" {
		t.Fatalf("the lock is not held: %s", got)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reason at the prompt", func() bool { return strings.Contains(mustSqlite(t, dir, "SELECT reason FROM v_errors"), "percent") })
}

func TestACopyOfTheWholeFolderKeepsItsLog(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	child := startChild(t, dir)
	last := child.acknowledged(30)
	_ = child.Process.Kill()
	_ = child.Wait()
	for _, name := range []string{File, File + "-wal", fileNote} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := start(t, copied)
	expectAcknowledged(t, s, last)
}

func TestTheLogSaysWhatChangedAndOnlyThat(t *testing.T) {
	log := &journal{}
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Dir: dir, Log: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	set(t, s, map[string]any{"host": "a.test"})
	mustSqlite(t, dir, "UPDATE rules SET percent=100; DELETE FROM rules; INSERT INTO rules(host) VALUES('b.test')")
	eventually(t, "the edits", func() bool { return strings.Contains(log.String(), "host=b.test") })
	cancel()
	if err := errors.Join(<-done, s.Close()); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"author=tester op=insert table=rules row=1 host=a.test", "author=sqlite3 op=update table=rules row=1 host=a.test",
		"author=sqlite3 op=delete table=rules row=1 host=a.test", "author=sqlite3 op=insert table=rules row=2 host=b.test",
	} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("%q is not there once", want)
		}
	}
	if strings.Contains(log.String(), "level=ERROR") || strings.Contains(log.String(), "level=WARN") {
		t.Errorf("a sound day is logged as a bad one:\n%s", log)
	}
}

func TestRulesComeIntoForceAtTheirTime(t *testing.T) {
	s, _ := start(t, t.TempDir())
	starts := time.Now().Add(300 * time.Millisecond).UTC().Format(time.RFC3339Nano)
	set(t, s, map[string]any{"host": "a.test", "percent": 100, "starts_at": starts})
	if version(s, "a.test") != rules.V1 {
		t.Error("it is in force before its time")
	}
	eventually(t, "the start", func() bool { return version(s, "a.test") == rules.V2 })
}
