package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cutover/rules"
)

func TestTriggersThatWereRemovedAreMadeAnew(t *testing.T) {
	dir := t.TempDir()
	_, stop := start(t, dir)
	stop()
	mustSqlite(t, dir, "DROP TRIGGER rules_ai; DROP VIEW v_errors")
	_, _ = start(t, dir)
	mustSqlite(t, dir, "INSERT INTO rules(host) VALUES('a.test'); SELECT * FROM v_errors")
	if got := mustSqlite(t, dir, "SELECT count(*) FROM changes"); got != "1" {
		t.Errorf("%s changes in the journal", got)
	}
}

func TestADatabaseOfANewerProgramIsReadIfThatAllowsIt(t *testing.T) {
	dir := t.TempDir()
	s, stop := start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 100})
	stop()
	mustSqlite(t, dir, "PRAGMA user_version=2; UPDATE meta SET value='2' WHERE key='min_writer'")
	s, stop = start(t, dir)
	if version(s, "a.test") != rules.V2 {
		t.Error("the rules are not read")
	}
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false); err == nil {
		t.Error("an edit was written into a newer schema")
	}
	stop()
	mustSqlite(t, dir, "UPDATE meta SET value='2' WHERE key='min_reader'")
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, errNewer) {
		t.Errorf("got %v", err)
	}
}

func TestADatabaseThatTurnsTooNewKeepsServing(t *testing.T) {
	s, dir, _ := served(t)
	mustSqlite(t, dir, "PRAGMA user_version=2; UPDATE meta SET value='2' WHERE key IN ('min_reader','min_writer'); DELETE FROM rules")
	expectServing(t, s, "newer cutover")
}

func TestARuleThatNeedsANewerProgramIsQuarantined(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	mustSqlite(t, dir, "INSERT INTO rules(host,percent,needs) VALUES('a.test',100,2)")
	eventually(t, "the quarantine", func() bool { return len(s.Snapshot().Problems) == 1 })
	if version(s, "a.test") != rules.V1 {
		t.Error("a rule that is not understood decides")
	}
}

func TestAForeignDatabaseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	mustSqlite(t, dir, "CREATE TABLE photos(x)")
	if _, err := Open(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "some other program") {
		t.Errorf("got %v", err)
	}
	if got := mustSqlite(t, dir, ".tables"); got != "photos" {
		t.Errorf("tables: %s", got)
	}
}

func TestCheckLooksBesideARunningOwnerAndWritesNothing(t *testing.T) {
	dir := t.TempDir()
	report, err := Check(t.Context(), dir)
	if err != nil || report.Exists {
		t.Fatalf("an empty folder: %+v, %v", report, err)
	}
	s, stop := start(t, dir)
	set(t, s, map[string]any{"host": "a.test"})
	report, err = Check(t.Context(), dir)
	if err != nil || report.Counts.Rules != 1 {
		t.Errorf("beside the owner: %+v, %v", report, err)
	}
	stop()
	report, err = Check(t.Context(), dir)
	if err != nil || report.Counts.Rules != 1 {
		t.Errorf("without the owner: %+v, %v", report, err)
	}
	if err := os.WriteFile(filepath.Join(dir, File), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged file: %v", err)
	}
}
