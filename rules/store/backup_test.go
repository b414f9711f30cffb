package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// backedUp writes a backup into the state directory of another store, and returns that.
func backedUp(t *testing.T, s *Store) (dir string) {
	t.Helper()
	from, err := s.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	dir = t.TempDir()
	to, err := os.OpenFile(filepath.Join(dir, File), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestABackupHasEverythingThatIsCommitted(t *testing.T) {
	leakCheck(t)
	s, dir, _ := served(t)
	set(t, s, map[string]any{"host": "b.test", "percent": 0.5})
	before := names(t, dir)
	copied := backedUp(t, s)
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("it left behind %v", after)
	}
	if err := CheckBackup(t.Context(), filepath.Join(copied, File)); err != nil {
		t.Error(err)
	}
	if got, want := dump(t, copied), dump(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, _ := start(t, copied)
	if again.Load().Lineage() != s.Load().Lineage() || len(history(t, again, Filter{})) != 2 {
		t.Error("lineage or journal did not come along")
	}
}

func TestABackupIsOneStateWhileEditsGoOn(t *testing.T) {
	s, _, _ := served(t)
	ctx, cancel := context.WithCancel(t.Context())
	var editing sync.WaitGroup
	editing.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			edits := []Edit{{Table: TableRules, Row: map[string]any{"host": "a.test", "percent": n % 100}}, {Table: TableRules, Row: map[string]any{"host": "b.test", "percent": n % 100}}}
			_, _ = s.Apply(ctx, Author{}, edits, false)
		}
	})
	for range 5 {
		if got := mustSqlite(t, backedUp(t, s), "SELECT count(DISTINCT percent) FROM rules WHERE host<>'a.test' OR EXISTS(SELECT 1 FROM rules WHERE host='b.test')"); got > "1" {
			t.Errorf("half of an edit is in a backup: %s", got)
		}
	}
	cancel()
	editing.Wait()
}

func TestABackupThatFailsLeavesNothingBehind(t *testing.T) {
	s, dir, _ := served(t)
	before := names(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Backup(ctx); err == nil {
		t.Error("a backup that nobody waits for was made")
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("it left behind %v", after)
	}
	if err := os.Mkdir(filepath.Join(dir, backupFolder), 0o700); err != nil {
		t.Fatal(err)
	}
	_ = backedUp(t, s)
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("what a crash left is still there: %v", after)
	}
}

func TestWhatIsNoBackupIsRefused(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "short": "SQLite format 3\x00", "other": fmt.Sprintf("%1000d", 7)} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := CheckBackup(t.Context(), path); err == nil {
			t.Errorf("%s: it was taken for a backup", name)
		}
	}
}
