package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cutover/rules"
)

func ruleRow(line int, host string, percent float64) ImportRow {
	return ImportRow{Line: line, Rule: &rules.Rule{
		Host: host, Path: "/", Match: rules.KindPrefix, Conditions: "{}", V1: "v1", V2: "v2", Percent: percent, Sticky: rules.StickyCookie, Enabled: true, Needs: 1,
	}}
}

func redirectRow(line int, host, path, to string) ImportRow {
	return ImportRow{Line: line, Redirect: &rules.Redirect{Host: host, Path: path, Match: rules.KindPrefix, ToURL: to, Status: 301, Enabled: true, Needs: 1}}
}

func these(rows ...ImportRow) func(func(ImportRow) error) error {
	return func(add func(ImportRow) error) error {
		for _, row := range rows {
			if err := add(row); err != nil {
				return err
			}
		}
		return nil
	}
}

func mustImport(t *testing.T, s *Store, im Import) ImportResult {
	t.Helper()
	result, err := s.Import(t.Context(), Author{Name: "importer"}, im, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestAnImportIsInForceWhenItReturns(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	s, _ := start(t, dir)
	set(t, s, map[string]any{"host": "old.test", "percent": 100})
	set(t, s, map[string]any{"host": "b.test", "percent": 0})
	result := mustImport(t, s, Import{Table: TableRules, Rows: these(ruleRow(1, "a.test", 100), ruleRow(2, "B.test", 100))})
	if result.Added != 1 || result.Changed != 1 || result.Removed != 0 || !result.Applied {
		t.Errorf("append: %+v", result)
	}
	for _, host := range []string{"a.test", "b.test", "old.test"} {
		if version(s, host) != rules.V2 {
			t.Errorf("%s gets %s", host, version(s, host))
		}
	}
	result = mustImport(t, s, Import{Table: TableRules, Replace: true, Rows: these(ruleRow(1, "a.test", 100))})
	if result.Removed != 2 || result.Unchanged != 1 || version(s, "old.test") != rules.V1 {
		t.Errorf("replace: %+v", result)
	}
	if got := mustSqlite(t, dir, "SELECT op, count(*) FROM changes WHERE author='importer' GROUP BY op"); got != "delete|2\ninsert|1\nupdate|1" {
		t.Errorf("the journal says %q", got)
	}
	if got := mustSqlite(t, dir, "SELECT count(*) FROM change_context"); got != "0" {
		t.Error("the next edit would be in the importer's name")
	}
}

func TestADryRunOfAnImportCountsWhatTheImportDoes(t *testing.T) {
	s, _ := start(t, t.TempDir())
	set(t, s, map[string]any{"host": "a.test", "percent": 1})
	set(t, s, map[string]any{"host": "b.test", "percent": 1})
	im := Import{Table: TableRules, Replace: true, DryRun: true, Rows: these(ruleRow(1, "a.test", 2), ruleRow(2, "c.test", 2))}
	dry := mustImport(t, s, im)
	if dry.Applied || s.Snapshot().Seq != 2 {
		t.Error("a dry run changed something")
	}
	im.DryRun = false
	done := mustImport(t, s, im)
	dry.Applied, dry.Seq = done.Applied, done.Seq
	if fmt.Sprint(dry) != fmt.Sprint(done) || done.Added != 1 || done.Changed != 1 || done.Removed != 1 {
		t.Errorf("dry run %+v, import %+v", dry, done)
	}
}

func TestABadRowKeepsAnImportFromBeingAppliedUnlessPartial(t *testing.T) {
	s, _ := start(t, t.TempDir())
	long := ruleRow(6, "f.test", 1)
	long.Rule.Note = strings.Repeat("x", 1001) // only the table itself knows
	nowhere := ruleRow(4, "d.test", 1)
	nowhere.Rule.V2 = "nowhere"
	rows := these(ruleRow(1, "a.test", 100), ruleRow(2, "b.test", 101), ImportRow{Line: 3, Problem: "it is no row"}, nowhere, ruleRow(5, "A.test.", 7), long)
	result := mustImport(t, s, Import{Table: TableRules, Rows: rows})
	var lines []string
	for _, bad := range result.Bad {
		lines = append(lines, fmt.Sprintf("%d %s", bad.Line, bad.Reason))
	}
	want := []string{
		"2 percent must be a number from 0 to 100", "3 it is no row", `4 there is no upstream "nowhere" (cutover upstreams ls)`,
		"5 the same row as one before it", "6 note must be text of at most 1000 characters, on one line",
	}
	if result.Applied || result.BadTotal != 5 || strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("%+v", result)
	}
	result = mustImport(t, s, Import{Table: TableRules, Partial: true, Rows: rows})
	if !result.Applied || result.Added != 1 || result.BadTotal != 5 || version(s, "a.test") != rules.V2 {
		t.Errorf("partial: %+v", result)
	}
}

func TestARedirectThatLeadsInCirclesIsABadRow(t *testing.T) {
	s, _ := start(t, t.TempDir())
	there := []ImportRow{redirectRow(1, "a.test", "/x", "https://b.test/x"), redirectRow(2, "c.test", "/", "https://a.test/x")}
	result := mustImport(t, s, Import{Table: TableRedirects, Rows: these(there...)})
	if !result.Applied || len(result.Warnings) != 1 || result.Warnings[0] != "c.test/ → https://a.test/x → https://b.test/x" {
		t.Errorf("a chain: %+v", result)
	}
	back := []ImportRow{redirectRow(7, "b.test", "/x", "https://c.test/"), redirectRow(8, "d.test", "/", "https://e.test/")}
	result = mustImport(t, s, Import{Table: TableRedirects, Partial: true, Rows: these(back...)})
	if result.Added != 1 || result.BadTotal != 1 || result.Bad[0].Line != 7 || !strings.Contains(result.Bad[0].Reason, "b.test/x → https://c.test/ → https://a.test/x → https://b.test/x") {
		t.Errorf("a loop: %+v", result)
	}
	result = mustImport(t, s, Import{Table: TableRedirects, Replace: true, Rows: these(back...)})
	if !result.Applied || result.BadTotal != 0 || result.Removed != 2 {
		t.Errorf("with the others gone it is none: %+v", result)
	}
}

func TestOnlyOneImportIsUnderWay(t *testing.T) {
	s, _ := start(t, t.TempDir())
	mustImport(t, s, Import{Table: TableRules, Rows: func(add func(ImportRow) error) error {
		if _, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: these()}, nil); !errors.Is(err, ErrImporting) {
			t.Errorf("the second says %v", err)
		}
		set(t, s, map[string]any{"host": "meanwhile.test", "percent": 100}) // while rows are read nothing is locked
		return add(ruleRow(1, "a.test", 100))
	}})
	if version(s, "a.test") != rules.V2 || version(s, "meanwhile.test") != rules.V2 {
		t.Error("an edit or an import was lost")
	}
}

// manyRules are rules for h0.test and so on, on v2.
func manyRules(n int) func(func(ImportRow) error) error {
	return func(add func(ImportRow) error) error {
		for i := range n {
			if err := add(ruleRow(i+1, fmt.Sprintf("h%d.test", i), 100)); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestEditsGoOnDuringALargeImportWhichComesIntoForceAtOnce(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	s, _ := start(t, dir)
	edits := 0
	result, err := s.Import(t.Context(), Author{Name: "importer"}, Import{Table: TableRules, Rows: manyRules(10_000)}, func(int) {
		host := fmt.Sprintf("meanwhile%d.test", edits)
		edits++
		set(t, s, map[string]any{"host": host, "percent": 100})
		mustSqlite(t, dir, "UPDATE rules SET note='seen' WHERE host='"+host+"'")
		if version(s, host) != rules.V2 || version(s, "h0.test") != rules.V1 {
			t.Errorf("after edit %d: the edit is in force: %s, the import is: %s", edits, version(s, host), version(s, "h0.test"))
		}
	})
	if err != nil || result.Added != 10_000 || edits < 5 {
		t.Fatal(result, edits, err)
	}
	if version(s, "h0.test") != rules.V2 || version(s, "h9999.test") != rules.V2 {
		t.Error("the import is not in force")
	}
	expectTrue(t, s)
	mustSqlite(t, dir, "UPDATE rules SET percent=0 WHERE host='h1.test'")
	eventually(t, "an edit after the import", func() bool { return version(s, "h1.test") == rules.V1 })
}

func TestAnImportThatWasKilledIsTakenBack(t *testing.T) {
	for name, snapshot := range map[string]bool{"with a snapshot": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			_, dir, stop := served(t)
			stop()
			child := startImporting(t, dir)
			child.acknowledged(3) // some chunks are written
			_ = child.Process.Kill()
			_ = child.Wait()
			if n := mustSqlite(t, dir, "SELECT count(*)>1000 FROM rules"); n != "1" {
				t.Fatal("nothing was written yet")
			}
			if !snapshot {
				_ = os.Remove(filepath.Join(dir, snapshotFile))
			}
			s, _ := start(t, dir)
			if version(s, "a.test") != rules.V2 || version(s, "h0.test") != rules.V1 {
				t.Errorf("%s, %s", version(s, "a.test"), version(s, "h0.test"))
			}
			set(t, s, map[string]any{"host": "b.test"})
			eventually(t, "taking it back", func() bool { return s.holding().none() })
			if got := mustSqlite(t, dir, "SELECT group_concat(host) FROM rules; SELECT count(*) FROM meta WHERE key='importing'"); got != "a.test,b.test\n0" {
				t.Error(got)
			}
			expectTrue(t, s)
			mustImport(t, s, Import{Table: TableRules, Rows: manyRules(3000)})
			if version(s, "h0.test") != rules.V2 {
				t.Error("another import is not in force")
			}
		})
	}
}

func TestWhatOthersChangedOfABrokenImportStays(t *testing.T) {
	s, dir, _ := served(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Import(ctx, Author{}, Import{Table: TableRules, Rows: manyRules(10_000)}, func(int) {
		set(t, s, map[string]any{"host": "h0.test", "note": "mine"})
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got := mustSqlite(t, dir, "SELECT group_concat(host||note) FROM rules"); got != "a.test,h0.testmine" {
		t.Error(got)
	}
	eventually(t, "the end", func() bool { return s.holding().none() })
	expectTrue(t, s)
}

func TestAnImportThatBreaksOffLeavesNothing(t *testing.T) {
	leakCheck(t)
	dir := t.TempDir()
	s, stop := start(t, dir)
	torn := errors.New("the line was cut")
	_, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: func(add func(ImportRow) error) error {
		return errors.Join(add(ruleRow(1, "a.test", 1)), torn)
	}}, nil)
	if !errors.Is(err, torn) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	many := func(add func(ImportRow) error) error {
		for i := range 5000 {
			if err := add(ruleRow(i, fmt.Sprintf("h%d.test", i), 1)); err != nil {
				return err
			}
		}
		return nil
	}
	if _, err = s.Import(ctx, Author{}, Import{Table: TableRules, Rows: many}, func(int) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	set(t, s, map[string]any{"host": "b.test"}) // the lock is given back
	if got := mustSqlite(t, dir, "SELECT count(*), min(host) FROM rules"); got != "1|b.test" {
		t.Errorf("the rules are %s", got)
	}
	stop()
	if _, err := s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: these()}, nil); err == nil {
		t.Error("an import without an owner")
	}
}

func TestAnImportSaysWhoHoldsTheLock(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	db, err := sql.Open("sqlite3", dataSource(s.path, "rw"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	_, err = s.Import(t.Context(), Author{}, Import{Table: TableRules, Rows: these(ruleRow(1, "a.test", 1))}, nil)
	if err == nil || !strings.Contains(err.Error(), "nothing was changed: the database is locked") {
		t.Errorf("got %v", err)
	}
	if _, err := conn.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	mustImport(t, s, Import{Table: TableRules, Rows: these(ruleRow(1, "a.test", 1))})
}

func TestAnExportIsSorted(t *testing.T) {
	s, _ := start(t, t.TempDir())
	mustImport(t, s, Import{Table: TableRules, Rows: these(ruleRow(1, "b.test", 1), ruleRow(2, "a.test", 2))})
	var hosts []string
	err := s.ExportRules(t.Context(), func(r *rules.Rule) error {
		hosts = append(hosts, r.Host)
		return nil
	})
	if err != nil || strings.Join(hosts, " ") != "a.test b.test" {
		t.Errorf("%v, %v", hosts, err)
	}
}
