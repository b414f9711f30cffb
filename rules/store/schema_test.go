package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
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
	mustSqlite(t, dir, "PRAGMA user_version="+nextSchema+"; UPDATE meta SET value='"+nextSchema+"' WHERE key='min_writer'")
	s, stop = start(t, dir)
	if version(s, "a.test") != rules.V2 {
		t.Error("the rules are not read")
	}
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false); err == nil {
		t.Error("an edit was written into a newer schema")
	}
	stop()
	mustSqlite(t, dir, "UPDATE meta SET value='"+nextSchema+"' WHERE key='min_reader'")
	if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, errNewer) {
		t.Errorf("got %v", err)
	}
}

func TestADatabaseThatTurnsTooNewKeepsServing(t *testing.T) {
	s, dir, _ := served(t)
	mustSqlite(t, dir, "PRAGMA user_version="+nextSchema+"; UPDATE meta SET value='"+nextSchema+"' WHERE key IN ('min_reader','min_writer'); DELETE FROM rules")
	expectServing(t, s, "newer cutover")
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false); !errors.Is(err, errNewer) {
		t.Errorf("an edit was answered with %v", err)
	}
	mustSqlite(t, dir, "PRAGMA user_version="+thisSchema+"; UPDATE meta SET value='1' WHERE key IN ('min_reader','min_writer')")
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
	set(t, s, map[string]any{"host": "b.test"})
}

func TestADatabaseThatOnlyNewerProgramsMayWriteIsSaidToBeSo(t *testing.T) {
	s, dir, _ := served(t)
	mustSqlite(t, dir, "PRAGMA user_version="+nextSchema+"; UPDATE meta SET value='"+nextSchema+"' WHERE key='min_writer'; INSERT INTO rules(host,percent) VALUES('new.test',100)")
	expectServing(t, s, "this one only reads it")
	if !s.Health().ReadOnly {
		t.Error("health does not say that edits are refused")
	}
	eventually(t, "what the newer program writes", func() bool { return version(s, "new.test") == rules.V2 })
	mustSqlite(t, dir, "PRAGMA user_version="+thisSchema+"; UPDATE meta SET value='1' WHERE key='min_writer'")
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
	set(t, s, map[string]any{"host": "b.test"})
}

func TestTriggersThatAreRemovedMeanwhileAreMadeAnew(t *testing.T) {
	_, dir, _ := served(t)
	mustSqlite(t, dir, "DROP TRIGGER rules_bi; DROP TRIGGER rules_ai; DROP VIEW v_errors; CREATE VIEW v_errors AS SELECT 1")
	eventually(t, "the triggers", func() bool {
		return mustSqlite(t, dir, "SELECT count(*) FROM sqlite_master WHERE name IN ('rules_bi','rules_ai') OR (name='v_errors' AND sql LIKE '%reason%')") == "3"
	})
	if got, err := sqlite(t, dir, "INSERT INTO rules(host,v2) VALUES('b.test','v9')"); err == nil {
		t.Errorf("nonsense was let in: %s", got)
	}
}

func TestViewsOfOperatorsAreTheirOwn(t *testing.T) {
	_, dir, stop := served(t)
	mustSqlite(t, dir, "CREATE VIEW mine AS SELECT host FROM rules; DROP TRIGGER rules_ai")
	stop()
	_, _ = start(t, dir)
	if got := mustSqlite(t, dir, "SELECT * FROM mine"); got != "a.test" {
		t.Errorf("got %q", got)
	}
}

func TestADatabaseMadeFromADumpIsOurs(t *testing.T) {
	s, dir, stop := served(t)
	lineage := s.Load().Lineage()
	dump := mustSqlite(t, dir, ".dump")
	stop()
	file := filepath.Join(t.TempDir(), "dump.sql")
	if err := os.WriteFile(file, []byte(dump), 0o600); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	mustSqlite(t, other, ".read "+file)
	if _, err := Check(t.Context(), other); err != nil {
		t.Errorf("the check says %v", err)
	}
	s, _ = start(t, other)
	if version(s, "a.test") != rules.V2 || s.Load().Lineage() != lineage {
		t.Error("the rules did not come along")
	}
	if got := mustSqlite(t, other, "PRAGMA user_version; PRAGMA application_id"); got != thisSchema+"\n1129665615" {
		t.Errorf("marks: %q", got)
	}
}

func TestChecksComeAlongWithADump(t *testing.T) {
	_, dir, stop := served(t)
	mustSqlite(t, dir, "UPDATE upstreams SET check_path='/up', check_fall=7 WHERE name='v1'")
	dump := mustSqlite(t, dir, ".dump")
	stop()
	other, file := t.TempDir(), filepath.Join(t.TempDir(), "dump.sql")
	if err := os.WriteFile(file, []byte(dump), 0o600); err != nil {
		t.Fatal(err)
	}
	mustSqlite(t, other, ".read "+file)
	_, _ = start(t, other)
	if got := mustSqlite(t, other, "SELECT check_path, check_fall FROM upstreams WHERE name='v1'"); got != "/up|7" {
		t.Errorf("the checks are %s", got)
	}
}

func TestARuleThatNeedsANewerProgramIsQuarantined(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	mustSqlite(t, dir, "INSERT INTO rules(host,percent,needs) VALUES('a.test',100,"+nextSchema+")")
	eventually(t, "the quarantine", func() bool { return len(s.Snapshot().Problems) == 1 })
	if version(s, "a.test") != rules.V1 {
		t.Error("a rule that is not understood decides")
	}
}

func TestAForeignDatabaseIsLeftAlone(t *testing.T) {
	for _, mark := range []string{"", "; PRAGMA user_version=2", "; PRAGMA application_id=7"} {
		dir := t.TempDir()
		mustSqlite(t, dir, "CREATE TABLE photos(x); CREATE VIEW mine AS SELECT x FROM photos"+mark)
		if _, err := Open(t.Context(), Options{Dir: dir}); !errors.Is(err, errForeign) {
			t.Errorf("%s: got %v", mark, err)
		}
		if _, err := Check(t.Context(), dir); !errors.Is(err, errForeign) {
			t.Errorf("%s: the check says %v", mark, err)
		}
		if got := mustSqlite(t, dir, "SELECT group_concat(name) FROM sqlite_master"); got != "photos,mine" {
			t.Errorf("it holds %s", got)
		}
	}
}

func TestCheckLooksBesideARunningOwnerAndWritesNothing(t *testing.T) {
	dir := t.TempDir()
	report, err := Check(t.Context(), dir)
	if err != nil || report.Exists || len(names(t, dir)) > 0 {
		t.Fatalf("an empty folder: %+v, %v", report, err)
	}
	s, stop := start(t, dir)
	set(t, s, map[string]any{"host": "a.test"})
	report, err = Check(t.Context(), dir)
	if err != nil || report.Counts.Rules != 1 {
		t.Errorf("beside the owner: %+v, %v", report, err)
	}
	stop()
	before := names(t, dir)
	report, err = Check(t.Context(), dir)
	if err != nil || report.Counts.Rules != 1 {
		t.Errorf("without the owner: %+v, %v", report, err)
	}
	if after := names(t, dir); !slices.Equal(before, after) {
		t.Errorf("before: %v, after: %v", before, after)
	}
	vandalise(t, dir)
	if _, err := Check(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged file: %v", err)
	}
}

// names lists a folder.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}
