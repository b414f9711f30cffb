package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"cutover/rules"
)

// now returns a moment that is later than every change, and earlier than the next.
func now(t *testing.T, s *Store) time.Time {
	t.Helper()
	moment := time.Now().Truncate(time.Millisecond)
	if newest := history(t, s, Filter{Limit: 1}); len(newest) > 0 {
		moment = newest[0].At
	}
	eventually(t, "the next millisecond", func() bool { return time.Since(moment) > 2*time.Millisecond })
	return moment
}

func restored(t *testing.T, s *Store, at time.Time) Reversal {
	t.Helper()
	result, err := s.Restore(t.Context(), Author{Name: "tester"}, at, false)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestARestoreBringsBackATimeAndIsTakenBackByAnother(t *testing.T) {
	s, dir, _ := served(t)
	then, before := now(t, s), dump(t, dir)
	mustSqlite(t, dir, "UPDATE rules SET percent=5; UPDATE rules SET percent=7; INSERT INTO rules(host) VALUES('b.test'),('c.test'); DELETE FROM rules WHERE host='c.test'; UPDATE meta SET value='refuse' WHERE key='default'")
	later, after := now(t, s), dump(t, dir)
	result := restored(t, s, then)
	if got := dump(t, dir); got != before {
		t.Errorf("restored:\n%s\nwant:\n%s", got, before)
	}
	if result.Added != 0 || result.Removed != 1 || result.Changed != 2 || len(result.Rows) != 3 {
		t.Errorf("on balance: %+v", result)
	}
	if version(s, "a.test") != rules.V2 {
		t.Error("it is not in force")
	}
	if note := history(t, s, Filter{})[0].Note; !strings.HasPrefix(note, "restore to 20") {
		t.Errorf("the journal says %q", note)
	}
	restored(t, s, later)
	if got := dump(t, dir); got != after {
		t.Errorf("taken back:\n%s\nwant:\n%s", got, after)
	}
}

func TestARestoreAsADryRunSaysWhatItWouldDo(t *testing.T) {
	s, dir, _ := served(t)
	then := now(t, s)
	set(t, s, map[string]any{"host": "a.test", "percent": 0.5})
	before := dump(t, dir)
	result, err := s.Restore(t.Context(), Author{}, then, true)
	if err != nil || result.Changed != 1 || dump(t, dir) != before || result.Seq != 3 {
		t.Fatalf("%+v, %v", result, err)
	}
	was, _ := result.Rows[0].Old.Get("percent")
	will, _ := result.Rows[0].New.Get("percent")
	if was != 0.5 || will != int64(100) || result.Rows[0].Host != "a.test" {
		t.Errorf("%+v", result.Rows[0])
	}
	if newest := history(t, s, Filter{})[0].Seq; newest != 2 {
		t.Errorf("the journal is at %d", newest)
	}
}

func TestRowsThatHaveChangedPlacesAreRestored(t *testing.T) {
	s, dir, _ := served(t)
	mustSqlite(t, dir, "INSERT INTO rules(host) VALUES('b.test'); INSERT INTO hosts(host,hsts) VALUES('a.test',1),('b.test',2); INSERT INTO upstreams(name,note) VALUES('v3','3'); INSERT INTO targets(upstream,url) VALUES('v3','http://127.0.0.1:3')")
	then, before := now(t, s), dump(t, dir)
	for _, table := range []string{"rules", "hosts"} {
		mustSqlite(t, dir, fmt.Sprintf("UPDATE %[1]s SET host='x.test' WHERE host='a.test'; UPDATE %[1]s SET host='a.test' WHERE host='b.test'; UPDATE %[1]s SET host='b.test' WHERE host='x.test'", table))
	}
	mustSqlite(t, dir, "UPDATE upstreams SET name='v4' WHERE name='v3'; INSERT INTO upstreams(name) VALUES('v3'); UPDATE rules SET v2='v3'; DELETE FROM upstreams WHERE name='v4'")
	restored(t, s, then)
	if got := dump(t, dir); got != before {
		t.Errorf("restored:\n%s\nwant:\n%s", got, before)
	}
}

func TestAJournalThatDoesNotReachBackSaysFromWhenOnItDoes(t *testing.T) {
	s, dir, _ := served(t)
	then := now(t, s)
	set(t, s, map[string]any{"host": "a.test", "percent": 5})
	mustSqlite(t, dir, "DELETE FROM changes WHERE seq=1")
	oldest := mustSqlite(t, dir, "SELECT at FROM changes")
	_, err := s.Restore(t.Context(), Author{}, then.Add(-time.Hour), false)
	var refused *ReversalError
	if !errors.As(err, &refused) || !strings.Contains(refused.Message, "begins at "+oldest) || refused.Hint == "" {
		t.Errorf("got %v", err)
	}
}

func TestAJournalWithHolesIsNotTrusted(t *testing.T) {
	s, dir, _ := served(t)
	then := now(t, s)
	for _, hole := range []string{"seq=2", "seq>=2"} {
		set(t, s, map[string]any{"host": "a.test", "percent": 5})
		set(t, s, map[string]any{"host": "a.test", "percent": 6})
		mustSqlite(t, dir, "DELETE FROM changes WHERE "+hole)
		if _, err := s.Restore(t.Context(), Author{}, then, false); !errors.As(err, new(*ReversalError)) {
			t.Errorf("without %s: got %v", hole, err)
		}
	}
}

func TestNothingToTakeBackChangesNothing(t *testing.T) {
	s, _, _ := served(t)
	if result := restored(t, s, time.Now().Add(time.Hour)); result.Total() != 0 || result.Seq != 1 {
		t.Errorf("%+v", result)
	}
}

func TestAHundredThousandChangesAreTakenBack(t *testing.T) {
	s, dir, _ := served(t)
	then, before := now(t, s), dump(t, dir)
	mustSqlite(t, dir, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<50000) INSERT INTO rules(host) SELECT 'h'||i||'.test' FROM n; UPDATE rules SET percent=50`)
	result := restored(t, s, then)
	if got := dump(t, dir); got != before || result.Removed != 50000 || len(result.Rows) != maxRows {
		t.Errorf("%d rows are left, %d removed", s.Load().Counts().Rules, result.Removed)
	}
}

// Whatever was done to the rules, and by whom, each time that was can be had again.
func TestEveryTimeCanBeRestored(t *testing.T) {
	for seed := range uint64(3) {
		dir := t.TempDir()
		s, _ := start(t, dir)
		random := rand.New(rand.NewPCG(seed, 7))
		var times []time.Time
		var dumps []string
		for range 8 {
			for range 6 {
				randomEdit(t, s, dir, random)
			}
			times, dumps = append(times, now(t, s)), append(dumps, dump(t, dir))
		}
		for range 8 {
			i := random.IntN(len(times))
			restored(t, s, times[i])
			if got := dump(t, dir); got != dumps[i] {
				t.Fatalf("seed %d, time %d:\n%s\nwant:\n%s", seed, i, got, dumps[i])
			}
			times, dumps = append(times, now(t, s)), append(dumps, dumps[i])
			randomEdit(t, s, dir, random)
		}
	}
}

// randomEdit makes an edit that may be refused.
func randomEdit(t *testing.T, s *Store, dir string, random *rand.Rand) {
	t.Helper()
	host, other := fmt.Sprintf("h%d.test", random.IntN(4)), fmt.Sprintf("h%d.test", random.IntN(4))
	upstream, number := fmt.Sprintf("u%d", random.IntN(3)), random.IntN(100)
	if newest := history(t, s, Filter{Limit: 5}); random.IntN(6) == 0 && len(newest) > 0 {
		_, _ = s.Undo(t.Context(), Author{Name: "tester"}, []int64{newest[random.IntN(len(newest))].Seq}, false)
		return
	}
	if random.IntN(3) == 0 {
		row := map[string]any{"host": host, "percent": float64(number) / 3, "note": "it's " + other}
		_, _ = s.Apply(t.Context(), Author{Name: "tester"}, []Edit{{Table: TableRules, Remove: random.IntN(4) == 0, Row: row}}, false)
		return
	}
	statements := []string{
		"UPDATE rules SET host='%[1]s' WHERE host='%[2]s'",
		"DELETE FROM rules WHERE host='%[1]s'",
		"REPLACE INTO rules(host,percent) VALUES('%[1]s',%[4]d)",
		"UPDATE rules SET percent=%[4]d, starts_at='2026-01-01T00:00:00Z'",
		"UPDATE rules SET v2='%[3]s' WHERE host='%[1]s'",
		"INSERT INTO upstreams(name) VALUES('%[3]s')",
		"REPLACE INTO upstreams(name,note) VALUES('%[3]s','%[4]d')",
		"UPDATE upstreams SET name='u%[4]d' WHERE name='%[3]s'",
		"UPDATE OR REPLACE upstreams SET name='u0' WHERE name='%[3]s'",
		"DELETE FROM upstreams WHERE name='%[3]s'",
		"INSERT INTO targets(upstream,url) VALUES('%[3]s','http://127.0.0.1:%[4]d')",
		"REPLACE INTO targets(upstream,url,weight) SELECT upstream, url, weight+1 FROM targets",
		"UPDATE targets SET weight=%[4]d, upstream='%[3]s'",
		"INSERT INTO hosts(host,hsts) VALUES('%[1]s',%[4]d)",
		"REPLACE INTO hosts(host,hsts) VALUES(upper('%[1]s'),%[4]d)",
		"UPDATE hosts SET host='%[1]s' WHERE host='%[2]s'",
		"DELETE FROM hosts WHERE host='%[1]s'",
		"INSERT INTO redirects(host,path,to_url) VALUES('%[1]s','/%[4]d','https://%[2]s/')",
		"REPLACE INTO redirects(host,path,to_url) SELECT host, path, 'https://%[2]s/' FROM redirects",
		"UPDATE redirects SET host='%[1]s', path='/'||id",
		"INSERT INTO guards(host,path,rate) VALUES('%[1]s','/%[4]d',%[4]d)",
		"UPDATE guards SET host='%[1]s', deny='192.0.2.%[4]d' WHERE host='%[2]s'",
		"REPLACE INTO guards(host,path,realm) SELECT host, path, '%[2]s' FROM guards",
		"DELETE FROM guards WHERE host='%[1]s'",
		"UPDATE hosts SET certificate=iif(certificate='auto','any','file:x%[4]d'), tls=iif(hsts>50,'passthrough','terminate')",
		"UPDATE upstreams SET proxy_protocol='v1' WHERE name='%[3]s'",
		"UPDATE meta SET value=iif(value='v1','refuse','v1') WHERE key='default'",
		"BEGIN; UPDATE rules SET host='x.test' WHERE host='%[1]s'; UPDATE rules SET host='%[1]s' WHERE host='%[2]s'; UPDATE rules SET host='%[2]s' WHERE host='x.test'; COMMIT",
	}
	statement := fmt.Sprintf(statements[random.IntN(len(statements))]+"; --%[1]s%[2]s%[3]s%[4]d", host, other, upstream, number)
	_, _ = sqlite(t, dir, statement)
}
