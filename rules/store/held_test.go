package store

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/rules"
)

func TestABrokenImportIsTakenBackThoughAnotherRowHasTakenAPlace(t *testing.T) {
	leakCheck(t)
	s, dir, _ := served(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Import(ctx, Author{}, Import{Table: TableRules, Replace: true, Rows: manyRules(10_000)}, func(int) {
		set(t, s, map[string]any{"host": "a.test", "percent": 0, "note": "mine"})
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "taking it back", func() bool { return s.holding().none() })
	if got := mustSqlite(t, dir, "SELECT group_concat(host||note) FROM rules"); got != "a.testmine" {
		t.Error(got)
	}
	expectTrue(t, s)
}

func TestARestoreOfABackupDuringAnImportKeepsNothingOfTheImport(t *testing.T) {
	leakCheck(t)
	s, dir, _ := served(t)
	copied := filepath.Join(t.TempDir(), "b.db")
	mustSqlite(t, dir, "VACUUM INTO '"+copied+"'")
	n := 0
	_, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: manyRules(10_000)}, func(int) {
		if n++; n == 3 {
			mustSqlite(t, dir, ".restore "+copied)
		}
	})
	if !errors.Is(err, errImportLost) {
		t.Error("half of an import counts as made:", err)
	}
	eventually(t, "the end", func() bool { return s.holding().none() })
	if got := mustSqlite(t, dir, "SELECT count(*) FROM rules"); got != "1" {
		t.Error(got, "rows")
	}
	eventually(t, "out of force", func() bool { return version(s, "h0.test") == rules.V1 && version(s, "h9999.test") == rules.V1 })
	expectTrue(t, s)
}

func TestABackupThatWasMadeDuringAnImportIsRestoredWithoutIt(t *testing.T) {
	leakCheck(t)
	s, dir, _ := served(t)
	copied := filepath.Join(t.TempDir(), "b.db")
	n := 0
	mustImport2 := func() error {
		_, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: manyRules(10_000)}, func(int) {
			if n++; n == 3 {
				mustSqlite(t, dir, "VACUUM INTO '"+copied+"'")
			}
		})
		return err
	}
	if err := mustImport2(); err != nil {
		t.Fatal(err)
	}
	mustSqlite(t, dir, ".restore "+copied)
	eventually(t, "out of force", func() bool { return version(s, "h9999.test") == rules.V1 })
	eventually(t, "nothing of it", func() bool { return mustSqlite(t, dir, "SELECT count(*) FROM rules") == "1" })
	eventually(t, "out of force", func() bool { return version(s, "h0.test") == rules.V1 })
	eventually(t, "the end of it", func() bool { return s.holding().none() }) // its mark goes last
	if err := mustImport2(); err != nil {
		t.Error(err)
	}
}

func TestARestoreToATimeInTheMiddleOfAnImportBringsNoHalfOfItBack(t *testing.T) {
	leakCheck(t)
	s, dir, _ := served(t)
	before, middle := time.Now(), time.Time{}
	n := 0
	_, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: manyRules(10_000)}, func(int) {
		if n++; n == 5 {
			middle = time.Now()
			if _, err := s.Restore(t.Context(), Author{}, before, true); !isRefusal(err) {
				t.Error("a restore during an import says", err)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Restore(t.Context(), Author{}, middle, false)
	if !isRefusal(err) || !strings.Contains(err.Error(), "an import was being written at that time") {
		t.Error(err)
	}
	if got := mustSqlite(t, dir, "SELECT count(*) FROM rules"); got != "10001" {
		t.Error("half of an import is in force", got)
	}
	if _, err := s.Restore(t.Context(), Author{}, time.Now(), false); err != nil {
		t.Error(err)
	}
	if result, err := s.Restore(t.Context(), Author{}, before, false); err != nil || result.Removed != 10_000 {
		t.Error(result.Removed, err)
	}
}

func TestAnImportEndsThoughIDsAreFarApart(t *testing.T) {
	leakCheck(t)
	s, dir, _ := served(t)
	mustSqlite(t, dir, "INSERT INTO rules(id,host) VALUES(4000000000,'far.test')")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := s.Import(ctx, Author{}, Import{Table: TableRules, Replace: true, Rows: manyRules(3000)}, nil)
	if err != nil {
		t.Error(err)
	}
}

func TestNothingOfAnImportIsInForceThoughAnEditFailedMeanwhile(t *testing.T) {
	leakCheck(t)
	s, _, _ := served(t)
	n := 0
	_, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: manyRules(5000)}, func(int) {
		if n++; n != 2 {
			return
		}
		other, err := sql.Open("sqlite3", dataSource(s.path, "rw"))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		conn, err := other.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
			t.Fatal(err)
		}
		_, err = s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "c.test"}}}, false)
		if !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
		if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "health", func() bool { return s.Health().Problem == "" })
		if version(s, "h0.test") != rules.V1 {
			t.Error("half of the import is in force")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	expectTrue(t, s)
}

func TestAnImportIsRefusedUntilABrokenOneIsTakenBack(t *testing.T) {
	for name, n := range map[string]int{"a small one": 10, "a large one": 3000} {
		t.Run(name, func(t *testing.T) {
			_, dir, stop := served(t)
			stop()
			child := startImporting(t, dir)
			child.acknowledged(3) // some chunks are written
			_ = child.Process.Kill()
			_ = child.Wait()
			s, _ := start(t, dir)
			if s.holding().none() {
				t.Fatal("nothing is held back")
			}
			_, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: manyRules(n)}, nil)
			if !errors.Is(err, ErrImporting) {
				t.Errorf("got %v", err)
			}
			if version(s, "h0.test") != rules.V1 {
				t.Error("half of the broken one is in force")
			}
			eventually(t, "taking it back", func() bool { return s.holding().none() })
			mustImport(t, s, Import{Table: TableRules, Rows: manyRules(n)})
			if version(s, "h0.test") != rules.V2 {
				t.Error("the next import is not in force")
			}
			expectTrue(t, s)
		})
	}
}
