package store

import (
	"errors"
	"math"
	"testing"
	"time"
)

// journaled opens the rules with a journal of n changes, and no owner.
func journaled(t *testing.T, o Options, n string) *Store {
	t.Helper()
	o.Dir = t.TempDir()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	mustSqlite(t, o.Dir, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<"+n+") INSERT INTO hosts(host) SELECT 'h'||i||'.test' FROM n")
	return s
}

// oldest prunes until nothing is left to prune, and returns the oldest change that is left.
func oldest(t *testing.T, s *Store, keepFrom int64) int64 {
	t.Helper()
	for {
		deleted, err := s.prune(t.Context(), keepFrom)
		if err != nil || deleted > pruneAtOnce {
			t.Fatal(deleted, err)
		}
		if deleted == 0 {
			break
		}
	}
	changes := history(t, s, Filter{Limit: 10000})
	return changes[len(changes)-1].Seq
}

func TestTheOldestOfTooManyChangesAreDeleted(t *testing.T) {
	s := journaled(t, Options{KeepChanges: 100}, "2500")
	if got := oldest(t, s, 2300); got != 2300 {
		t.Errorf("with 2300 to be kept, %d is the oldest", got)
	}
	if got := oldest(t, s, math.MaxInt64); got != 2401 {
		t.Errorf("of 2500, %d is the oldest", got)
	}
	if _, err := s.prune(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

func TestOldChangesAreDeletedButNeverTheNewest(t *testing.T) {
	ahead := time.Duration(0)
	s := journaled(t, Options{KeepFor: time.Hour, Now: func() time.Time { return time.Now().Add(ahead) }}, "50")
	if got := oldest(t, s, math.MaxInt64); got != 1 {
		t.Errorf("at first %d is the oldest", got)
	}
	ahead = 2 * time.Hour
	if got := oldest(t, s, math.MaxInt64); got != 50 {
		t.Errorf("at last %d is the oldest", got)
	}
}

func TestAPrunedJournalStillRestoresWhatItHas(t *testing.T) {
	s := journaled(t, Options{KeepChanges: 10}, "20")
	if got := oldest(t, s, math.MaxInt64); got != 11 {
		t.Fatalf("%d is the oldest", got)
	}
	at := history(t, s, Filter{})[0].At
	if _, err := restore(t.Context(), s.conn, Author{}, at.Add(-time.Hour)); !errors.As(err, new(*ReversalError)) {
		t.Errorf("before its beginning: %v", err)
	}
	if result, err := restore(t.Context(), s.conn, Author{}, at); err != nil || result.Total() != 0 {
		t.Errorf("since its beginning: %+v, %v", result, err)
	}
}
