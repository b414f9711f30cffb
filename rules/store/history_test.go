package store

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// history lists the journal, the newest change first.
func history(t *testing.T, s *Store, f Filter) []Change {
	t.Helper()
	changes, err := s.History(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

func TestAHistoryHasWhatEachChangeDid(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 10, "note": "it's, so"})
	set(t, s, map[string]any{"host": "a.test", "percent": 50})
	mustSqlite(t, dir, "DELETE FROM rules")
	changes := history(t, s, Filter{})
	if len(changes) != 3 || changes[0].Seq != 3 {
		t.Fatalf("got %+v", changes)
	}
	removed, changed, added := changes[0], changes[1], changes[2]
	if removed.Op != OpDelete || removed.Author != "sqlite3" || removed.New != nil || removed.Host != "a.test" {
		t.Errorf("the removal: %+v", removed)
	}
	old, _ := changed.Old.Get("percent")
	now, _ := changed.New.Get("percent")
	if old != int64(10) || now != int64(50) || changed.Author != "tester" || changed.Row != "1" || time.Since(changed.At) > time.Minute {
		t.Errorf("the change: %+v", changed)
	}
	if note, _ := added.New.Get("note"); note != "it's, so" || added.Old != nil {
		t.Errorf("the addition: %+v", added)
	}
}

func TestAHistoryCanBeNarrowed(t *testing.T) {
	dir := t.TempDir()
	s, _ := start(t, dir)
	for n := range 60 {
		set(t, s, map[string]any{"host": fmt.Sprintf("h%d.test", n)})
	}
	mustSqlite(t, dir, "UPDATE rules SET host='new.test' WHERE host='h7.test'; UPDATE meta SET value='refuse' WHERE key='default'")
	for name, row := range map[string]struct {
		filter Filter
		want   []int64
	}{
		"the limit":           {Filter{Limit: 2}, []int64{62, 61}},
		"the next page":       {Filter{Limit: 2, Before: 61}, []int64{60, 59}},
		"a host":              {Filter{Host: "h5.test"}, []int64{6}},
		"a host of the past":  {Filter{Host: "h7.test"}, []int64{61, 8}},
		"an author":           {Filter{Author: "SQLITE"}, []int64{62, 61}},
		"a table":             {Filter{Table: TableMeta}, []int64{62}},
		"nothing of tomorrow": {Filter{Since: time.Now().Add(time.Hour)}, nil},
		"nothing of long ago": {Filter{Until: time.Now().Add(-time.Hour)}, nil},
	} {
		var got []int64
		for _, change := range history(t, s, row.filter) {
			got = append(got, change.Seq)
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: got %v, want %v", name, got, row.want)
		}
	}
	if n := len(history(t, s, Filter{})); n != defaultLimit {
		t.Errorf("%d changes without a limit", n)
	}
}

func TestAHistoryIsReadWhileSomebodyHoldsTheWriteLock(t *testing.T) {
	s, dir, _ := served(t)
	_, _ = prompt(t, dir)
	if n := len(history(t, s, Filter{})); n != 1 {
		t.Errorf("%d changes", n)
	}
}

func TestAnEntryThatSomebodyWroteByHandHidesNoOthers(t *testing.T) {
	s, dir, _ := served(t)
	mustSqlite(t, dir, "INSERT INTO changes(author,tbl,row,op,new) VALUES('me','rules','9','insert','nonsense')")
	changes := history(t, s, Filter{})
	if len(changes) != 2 || changes[0].Problem == "" || changes[1].Problem != "" {
		t.Errorf("got %+v", changes)
	}
}
