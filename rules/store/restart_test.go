package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cutover/rules"
)

// vandalise makes a database that nobody can read.
func vandalise(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, File), []byte(strings.Repeat("no database ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestARestartWithADamagedDatabaseServesTheLastGoodRulesAndHeals(t *testing.T) {
	leakCheck(t)
	_, dir, stop := served(t)
	stop()
	good, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	vandalise(t, dir)
	s, _ := start(t, dir)
	expectServing(t, s, "damaged")
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("an edit was answered with %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, File), good, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
	set(t, s, map[string]any{"host": "b.test"})
}

func TestADamagedDatabaseWithoutLastGoodRulesIsAnError(t *testing.T) {
	dir := t.TempDir()
	vandalise(t, dir)
	if _, err := Open(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "restore a backup") {
		t.Errorf("got %v", err)
	}
}

func TestQuarantineSurvivesARestart(t *testing.T) {
	s, dir, stop := served(t)
	mustSqlite(t, dir, "PRAGMA ignore_check_constraints=1; UPDATE rules SET percent='333'")
	eventually(t, "the quarantine", func() bool { return len(s.Snapshot().Problems) == 1 })
	stop()
	s, _ = start(t, dir)
	if version(s, "a.test") != rules.V2 {
		t.Error("the last good version is lost")
	}
	if problems := s.Snapshot().Problems; len(problems) != 1 || !problems[0].Serving {
		t.Errorf("%+v", problems)
	}
}

func TestAReplacedDatabaseIsNotRuinedByTheLogOfTheOldOne(t *testing.T) {
	for name, killed := range map[string]bool{"after a stop": false, "after kill -9": true} {
		t.Run(name, func(t *testing.T) {
			dir, other := t.TempDir(), t.TempDir()
			fresh, stop := start(t, other)
			set(t, fresh, map[string]any{"host": "new.test", "percent": 100})
			stop()
			if killed {
				c := startChild(t, dir)
				c.acknowledged(30)
				_ = c.Process.Kill()
				_ = c.Wait()
				replace(t, other, dir)
			} else {
				s, stop := start(t, dir)
				for range 30 {
					set(t, s, map[string]any{"host": "old.test", "percent": 50})
				}
				replace(t, other, dir)
				stop()
			}
			s, _ := start(t, dir)
			if version(s, "new.test") != rules.V2 {
				t.Error("the new database is not in force")
			}
			if got := mustSqlite(t, dir, "PRAGMA integrity_check; SELECT count(*) FROM rules"); got != "ok\n1" {
				t.Errorf("the new database holds %q", got)
			}
		})
	}
}

// replace moves the database of one folder over that of another.
func replace(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(from, File), filepath.Join(to, File)); err != nil {
		t.Fatal(err)
	}
}

func TestAPromptThatHoldsTheWriteLockDoesNotKeepARestartFromServing(t *testing.T) {
	_, dir, stop := served(t)
	stop()
	_, _ = prompt(t, dir)
	began := time.Now()
	s, _ := start(t, dir)
	if version(s, "a.test") != rules.V2 {
		t.Error("the rules are not in force")
	}
	if took := time.Since(began); took > busyPatience {
		t.Errorf("it waited %v for a lock that it does not need", took)
	}
}

func TestARestartOnAFullDiskServesTheLastGoodRules(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a small file system and needs root: run scripts/test.sh, or sudo")
	}
	dir := t.TempDir()
	if err := syscall.Mount("small", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s, stop := start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 100})
	stop()
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	s, _ = start(t, dir)
	if version(s, "a.test") != rules.V2 {
		t.Error("the rules are not in force")
	}
	if s.Health().Problem == "" {
		t.Error("nobody is told")
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
	set(t, s, map[string]any{"host": "b.test", "percent": 100})
}

func TestARemovedLogIsNoticedBeforeAnEditIsLostInIt(t *testing.T) {
	s, dir, _ := served(t)
	set(t, s, map[string]any{"host": "c.test"})
	if err := os.Remove(filepath.Join(dir, File+"-wal")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false); err == nil {
		t.Error("an edit was acknowledged into a log without a name")
	}
	expectServing(t, s, "replaced or removed")
}

func TestRulesEndAtTheirTimeEvenWhileTheDatabaseIsDamaged(t *testing.T) {
	dir := t.TempDir()
	var ahead atomic.Int64
	s := open(t, Options{Dir: dir, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	ends := time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)
	set(t, s, map[string]any{"host": "a.test", "percent": 100, "ends_at": ends})
	mustSqlite(t, dir, "DROP VIEW v_status; DROP TABLE redirects")
	expectServing(t, s, "restore a backup")
	ahead.Store(int64(2 * time.Hour))
	eventually(t, "the end", func() bool { return version(s, "a.test") == rules.V1 })
}
