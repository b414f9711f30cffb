package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"cutover/rules"
)

func TestAnEditWithSqlite3IsInForceSoonAfterItsCommit(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	s, _ := start(t, dir)
	mustSqlite(t, dir, "INSERT INTO rules(host, percent) VALUES('shop.example.com', 100)")
	eventually(t, "v2", func() bool { return version(s, "shop.example.com") == rules.V2 })
	mustSqlite(t, dir, "UPDATE rules SET percent=0 WHERE host='shop.example.com'")
	eventually(t, "v1", func() bool { return version(s, "shop.example.com") == rules.V1 })
	if got := mustSqlite(t, dir, "SELECT DISTINCT author FROM changes"); got != "sqlite3" {
		t.Errorf("the journal says %q", got)
	}
}

func TestSeveralEditsInOneTransactionComeIntoForceAtOnce(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	mustSqlite(t, dir, "INSERT INTO rules(host) VALUES('a.test'),('b.test')")
	eventually(t, "both rules", func() bool { return s.Load().Counts().Rules == 2 })
	var watching sync.WaitGroup
	stop := make(chan struct{})
	watching.Go(func() {
		for {
			view := s.Load()
			a, b := view.Match(&rules.Request{Host: "a.test", Path: "/"}), view.Match(&rules.Request{Host: "b.test", Path: "/"})
			if a.Version != b.Version {
				t.Error("a view has half of a transaction")
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for i := range 20 {
		percent := i % 2 * 100
		mustSqlite(t, dir, fmt.Sprintf("BEGIN; UPDATE rules SET percent=%d WHERE host='a.test'; UPDATE rules SET percent=%d WHERE host='b.test'; COMMIT", percent, percent))
	}
	close(stop)
	watching.Wait()
}

func TestARowThatGetsPastSQLiteIsQuarantined(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 100})
	mustSqlite(t, dir, "PRAGMA ignore_check_constraints=1; UPDATE rules SET percent='333'; INSERT INTO rules(host,percent) VALUES('b.test',100)")
	eventually(t, "the good row of the same transaction", func() bool { return version(s, "b.test") == rules.V2 })
	if version(s, "a.test") != rules.V2 {
		t.Error("the last good version does not serve")
	}
	eventually(t, "the reason at the prompt", func() bool {
		return strings.Contains(mustSqlite(t, dir, "SELECT * FROM v_errors"), "percent must be a number from 0 to 100|its last good version")
	})
	mustSqlite(t, dir, "UPDATE rules SET percent=0 WHERE host='a.test'")
	eventually(t, "the mended row", func() bool { return version(s, "a.test") == rules.V1 && len(s.Snapshot().Problems) == 0 })
	eventually(t, "no reason at the prompt", func() bool { return mustSqlite(t, dir, "SELECT * FROM v_errors") == "" })
}

func TestEditsChangeOnlyWhatTheyName(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	first := set(t, s, map[string]any{"host": "Shop.Example.com", "percent": 10, "note": "hello"})
	second := set(t, s, map[string]any{"host": "shop.example.com", "percent": 20})
	if first.Rows[0]["id"] != second.Rows[0]["id"] || second.Rows[0]["note"] != "hello" || second.Rows[0]["percent"] != 20.0 {
		t.Errorf("%v, then %v", first.Rows, second.Rows)
	}
	if got := mustSqlite(t, dir, "SELECT author, op FROM changes ORDER BY seq"); got != "tester|insert\ntester|update" {
		t.Errorf("journal: %q", got)
	}
}

func TestEditsAreAllOrNothing(t *testing.T) {
	s, _ := start(t, t.TempDir())
	_, err := s.Apply(t.Context(), Author{Name: "tester"}, []Edit{
		{Table: TableRules, Row: map[string]any{"host": "a.test"}},
		{Table: TableRules, Row: map[string]any{"host": "b.test", "percent": 400}},
	}, false)
	var refused *EditError
	if !errors.As(err, &refused) || refused.Index != 1 || refused.Message != "percent must be a number from 0 to 100" {
		t.Fatalf("got %v", err)
	}
	if n := s.Load().Counts().Rules; n != 0 {
		t.Errorf("%d rules are in force", n)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	s, _ := start(t, t.TempDir())
	result, err := s.Apply(t.Context(), Author{Name: "tester"}, []Edit{{Table: TableRules, Row: map[string]any{"host": "a.test"}}}, true)
	if rows, _, _ := s.Rules(t.Context(), "", 10); err != nil || result.Changed != 1 || len(rows) != 0 {
		t.Errorf("%+v, %v, %d rows", result, err, len(rows))
	}
}

func TestRemovingWhatIsNotThereSaysSo(t *testing.T) {
	s, _ := start(t, t.TempDir())
	for _, row := range []map[string]any{{"host": "a.test"}, {"id": 7}} {
		_, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Remove: true, Row: row}}, false)
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%v: %v", row, err)
		}
	}
}

func TestTheDefaultCanBeSet(t *testing.T) {
	s, _ := start(t, t.TempDir())
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableMeta, Row: map[string]any{"key": "default", "value": "refuse"}}}, false); err != nil {
		t.Fatal(err)
	}
	if d := s.Load().Match(&rules.Request{Host: "a.test", Path: "/"}); d.Action != rules.Misdirected {
		t.Errorf("%+v", d)
	}
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableMeta, Row: map[string]any{"key": "lineage", "value": "x"}}}, false); err == nil {
		t.Error("the lineage was changed")
	}
}

func TestManyEditorsAtOnceLoseNothing(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	s, stop := start(t, dir)
	var editors sync.WaitGroup
	for n := range 50 {
		editors.Go(func() {
			host := fmt.Sprintf("h%d.test", n)
			set(t, s, map[string]any{"host": host, "percent": 100})
			if version(s, host) != rules.V2 {
				t.Errorf("%s is acknowledged and not in force", host)
			}
		})
	}
	editors.Wait()
	stop()
	again, _ := start(t, dir)
	if n := again.Load().Counts().Rules; n != 50 {
		t.Errorf("%d of 50 rules are there after a restart", n)
	}
}

func TestApplyEndsWithItsOwner(t *testing.T) {
	s, err := Open(t.Context(), Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(t.Context(), Author{}, nil, false); err == nil {
		t.Error("an edit was acknowledged by nobody")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyTheOwnerCanReadTheFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, _ := start(t, dir)
	set(t, s, map[string]any{"host": "a.test"})
	for _, name := range []string{"", File, File + "-wal", File + "-shm", "rules.lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %o", name, mode)
		}
	}
}
