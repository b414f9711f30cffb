package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cutover/rules"
)

func TestARowWithANegativeIDIsRefusedAndHurtsNoStart(t *testing.T) {
	dir := t.TempDir()
	s, stop := start(t, dir)
	for statement, name := range map[string]string{
		"INSERT INTO rules(id,host) VALUES(-4,'far.test')":                         "a rule",
		"INSERT INTO redirects(id,host,to_url) VALUES(0,'far.test','https://a.b')": "a redirect",
		"INSERT INTO targets(id,upstream,url) VALUES(-1,'v1','http://a.b')":        "a target",
	} {
		if got, err := sqlite(t, dir, statement); err == nil || !strings.Contains(got, "the id of "+name+" must be 1 or more") {
			t.Error(got)
		}
	}
	mustSqlite(t, dir, "DROP TRIGGER rules_ai; INSERT INTO rules(id,host,percent) VALUES(-4,'far.test',100)")
	eventually(t, "in force", func() bool { return version(s, "far.test") == rules.V2 })
	stop()
	_ = os.Remove(filepath.Join(dir, snapshotFile))
	s, _ = start(t, dir)
	if version(s, "far.test") != rules.V2 {
		t.Error("gone")
	}
}
