package store

import (
	"errors"
	"strings"
	"testing"

	"cutover/rules"
)

// dump returns all that operators decide, without the times of the rows.
func dump(t *testing.T, dir string) string {
	t.Helper()
	return mustSqlite(t, dir, `SELECT 'default', value FROM meta WHERE key='default';
		SELECT 'upstream', name, response_timeout, note, proxy_protocol FROM upstreams ORDER BY name;
		SELECT 'target', * FROM targets ORDER BY id;
		SELECT 'host', host, https, hsts, needs, note, certificate, tls FROM hosts ORDER BY host;
		SELECT 'rule', id, host, path, match, conditions, v1, v2, percent, sticky, starts_at, ends_at, enabled, needs, note FROM rules ORDER BY id;
		SELECT 'redirect', id, host, path, match, to_url, status, keep_path, keep_query, enabled, needs, note FROM redirects ORDER BY id;
		SELECT 'guard', id, host, path, allow, deny, rate, burst, users, realm, enabled, needs, note FROM guards ORDER BY id;`)
}

func undone(t *testing.T, s *Store, seqs ...int64) Reversal {
	t.Helper()
	result, err := s.Undo(t.Context(), Author{Name: "tester"}, seqs, false)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestAChangeIsUndoneAndItsUndoIsTakenBack(t *testing.T) {
	for name, edit := range map[string]string{
		"rule added":       "INSERT INTO rules(host,percent,note) VALUES('b.test',0.5,'it''s')",
		"rule changed":     "UPDATE rules SET percent=33.3, host='c.test', enabled=0 WHERE id=1",
		"rule removed":     "DELETE FROM rules WHERE id=1",
		"redirect added":   "INSERT INTO redirects(host,to_url) VALUES('b.test','https://c.test/')",
		"redirect changed": "UPDATE redirects SET status=410, to_url=''",
		"redirect removed": "DELETE FROM redirects",
		"host added":       "INSERT INTO hosts(host) VALUES('b.test')",
		"host changed":     "UPDATE hosts SET hsts=300",
		"host renamed":     "UPDATE hosts SET host='b.test'",
		"host removed":     "DELETE FROM hosts",
		"host for all":     "INSERT INTO hosts(host,certificate,tls) VALUES('*','any','passthrough')",
		"host of a file":   "UPDATE hosts SET certificate='file:own', host='*.a.test'",
		"guard added":      "INSERT INTO guards(host,path,deny,rate) VALUES('b.test','/x','10.0.0.0/8',0.5)",
		"guard changed":    "UPDATE guards SET users='', allow='192.0.2.1', burst=7, host='c.test'",
		"guard removed":    "DELETE FROM guards",
		"protocol changed": "UPDATE upstreams SET proxy_protocol='v2' WHERE name='v3'",
		"upstream added":   "INSERT INTO upstreams(name) VALUES('v4')",
		"upstream changed": "UPDATE upstreams SET response_timeout=2.5 WHERE name='v3'",
		"upstream removed": "DELETE FROM upstreams WHERE name='v3'",
		"upstream renamed": "UPDATE upstreams SET name='v5' WHERE name='v3'",
		"target added":     "INSERT INTO targets(upstream,url) VALUES('v2','http://127.0.0.1:3')",
		"target changed":   "UPDATE targets SET state='drain', weight=7",
		"target removed":   "DELETE FROM targets",
		"default changed":  "UPDATE meta SET value='refuse' WHERE key='default'",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := start(t, dir)
			mustSqlite(t, dir, `INSERT INTO upstreams(name,note) VALUES('v3','third'); INSERT INTO targets(upstream,url) VALUES('v1','http://127.0.0.1:1');
				INSERT INTO rules(host,percent) VALUES('a.test',100); INSERT INTO redirects(host,path,to_url) VALUES('a.test','/x','https://c.test/'); INSERT INTO hosts(host,https) VALUES('a.test','redirect'); INSERT INTO guards(host,users) VALUES('a.test','anna:$2a$04$UuTkgh8Xo3P3R1NRhEXqAuJQCNBmRSVnUFSKBWDIBkhzJFJlAb7W2')`)
			before := dump(t, dir)
			mustSqlite(t, dir, edit)
			after := dump(t, dir)
			done := undone(t, s, history(t, s, Filter{Limit: 1})[0].Seq)
			if got := dump(t, dir); got != before || done.Total() != 1 {
				t.Errorf("undone:\n%s\nwant:\n%s", got, before)
			}
			undone(t, s, done.Seq)
			if got := dump(t, dir); got != after {
				t.Errorf("the undo undone:\n%s\nwant:\n%s", got, after)
			}
		})
	}
}

func TestAnUndoIsInForceAndSaysInTheJournalWhatItIs(t *testing.T) {
	s, _, _ := served(t)
	set(t, s, map[string]any{"host": "a.test", "percent": 0})
	undone(t, s, 2)
	if version(s, "a.test") != rules.V2 {
		t.Error("the undo is not in force")
	}
	newest := history(t, s, Filter{})[0]
	if newest.Note != "undo of change 2" || newest.Author != "tester" {
		t.Errorf("%+v", newest)
	}
}

func TestAnUndoAsADryRunChangesNothing(t *testing.T) {
	s, dir, _ := served(t)
	before := dump(t, dir)
	result, err := s.Undo(t.Context(), Author{}, []int64{1}, true)
	if err != nil || result.Removed != 1 || dump(t, dir) != before {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestAChangeIsNotUndoneBehindALaterOne(t *testing.T) {
	s, dir, _ := served(t)
	set(t, s, map[string]any{"host": "a.test", "percent": 20})
	mustSqlite(t, dir, "UPDATE rules SET percent=30; INSERT INTO rules(host) VALUES('b.test')")
	before := dump(t, dir)
	_, err := s.Undo(t.Context(), Author{}, []int64{2}, false)
	var refused *ReversalError
	if !errors.As(err, &refused) || refused.Later == nil || refused.Later.Seq != 3 || refused.Later.Author != "sqlite3" {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(refused.Message, "change 3 by sqlite3 at 20") || !strings.HasSuffix(refused.Hint, "cutover undo 3 2") {
		t.Errorf("%s; %s", refused.Message, refused.Hint)
	}
	if dump(t, dir) != before {
		t.Error("something was changed")
	}
	undone(t, s, 2, 3)
	if version(s, "a.test") != rules.V2 {
		t.Error("both together are not undone")
	}
}

func TestARowThatWasRenamedSinceIsTouchedLater(t *testing.T) {
	s, dir, _ := served(t)
	mustSqlite(t, dir, "INSERT INTO hosts(host,hsts) VALUES('b.test',5); UPDATE hosts SET host='c.test'")
	_, err := s.Undo(t.Context(), Author{}, []int64{2}, false)
	var refused *ReversalError
	if !errors.As(err, &refused) || refused.Later == nil || refused.Later.Seq != 3 {
		t.Errorf("got %v", err)
	}
}

func TestARowThatIsNotAsTheJournalSaysIsLeftAlone(t *testing.T) {
	_, dir, stop := served(t)
	stop()
	mustSqlite(t, dir, "DROP TRIGGER rules_au; UPDATE rules SET percent=77")
	s, _ := start(t, dir)
	_, err := s.Undo(t.Context(), Author{}, []int64{1}, false)
	if !errors.As(err, new(*ReversalError)) || !strings.Contains(err.Error(), "not as this change left it") {
		t.Errorf("got %v", err)
	}
}

func TestWhatCannotBePutBackIsRefusedInPlainWords(t *testing.T) {
	s, dir, _ := served(t)
	mustSqlite(t, dir, "DELETE FROM rules; INSERT INTO rules(host) VALUES('a.test'); INSERT INTO upstreams(name) VALUES('v3'); INSERT INTO rules(host,v2) VALUES('b.test','v3')")
	for seq, want := range map[int64]string{
		2:  "another row has taken its place",
		4:  "rules still use this upstream",
		99: "there is no change 99",
	} {
		_, err := s.Undo(t.Context(), Author{}, []int64{seq}, false)
		var refused *ReversalError
		if !errors.As(err, &refused) || !strings.Contains(refused.Message, want) || refused.Hint == "" {
			t.Errorf("change %d: got %v, want %q", seq, err, want)
		}
	}
}

func TestMarksOfTheDatabaseAreNotUndone(t *testing.T) {
	s, dir, _ := served(t)
	mustSqlite(t, dir, "UPDATE meta SET value='0' WHERE key='min_reader'")
	if _, err := s.Undo(t.Context(), Author{}, []int64{2}, false); !errors.As(err, new(*ReversalError)) {
		t.Errorf("got %v", err)
	}
}

func TestTooManyAtOnceAreRefused(t *testing.T) {
	s, _, _ := served(t)
	if _, err := s.Undo(t.Context(), Author{}, make([]int64, maxUndo+1), false); !errors.As(err, new(*ReversalError)) {
		t.Errorf("got %v", err)
	}
}
