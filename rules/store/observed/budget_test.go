package observed

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func spend(t *testing.T, db *DB, at time.Time, uses ...Use) (Hold, bool) {
	t.Helper()
	hold, held, err := db.Spend(t.Context(), at, uses)
	if err != nil {
		t.Fatal(err)
	}
	return hold, held
}

func TestABudgetThatIsUsedUpHasRoomWhenTheOldestUseLeavesItsWindow(t *testing.T) {
	db := openIn(t, t.TempDir())
	defer func() { _ = db.Close() }()
	use := Use{Key: "account ca", Limit: 2, Window: time.Hour}
	now := time.UnixMilli(1_000_000_000_000)
	for _, at := range []time.Time{now, now.Add(time.Minute)} {
		if hold, held := spend(t, db, at, use); held {
			t.Fatalf("held: %+v", hold)
		}
	}
	hold, held := spend(t, db, now.Add(2*time.Minute), use)
	if !held || hold.Key != use.Key || !hold.Until.Equal(now.Add(time.Hour)) {
		t.Errorf("held %v: %+v", held, hold)
	}
	if hold, held := spend(t, db, now.Add(time.Hour), use); held {
		t.Errorf("an hour later: %+v", hold)
	}
}

func TestWhatOneBudgetRefusesTakesNothingOfTheOthers(t *testing.T) {
	db := openIn(t, t.TempDir())
	defer func() { _ = db.Close() }()
	now := time.Now()
	account, name := Use{Key: "account", Limit: 9, Window: time.Hour}, Use{Key: "name", Limit: 1, Window: time.Hour}
	spend(t, db, now, account, name)
	if _, held := spend(t, db, now, account, name); !held {
		t.Error("the name was ordered twice")
	}
	if n, err := db.Used(t.Context(), "account", now.Add(-time.Hour)); err != nil || n != 1 {
		t.Errorf("the account was used %d times, %v", n, err)
	}
}

func TestProcessesThatShareABudgetKeepItTogether(t *testing.T) {
	dir := t.TempDir()
	use := Use{Key: "account", Limit: 25, Window: time.Hour}
	now := time.Now()
	var spent sync.Map
	var running sync.WaitGroup
	for process := range 2 {
		db := openIn(t, dir)
		defer func() { _ = db.Close() }()
		for worker := range 4 {
			running.Go(func() {
				for n := range 10 {
					_, held, err := db.Spend(t.Context(), now, []Use{use})
					if err != nil {
						t.Error(err)
					}
					if !held {
						spent.Store([3]int{process, worker, n}, true)
					}
				}
			})
		}
	}
	running.Wait()
	count := 0
	spent.Range(func(any, any) bool { count++; return true })
	if count != use.Limit {
		t.Errorf("%d of 80 went through, want %d", count, use.Limit)
	}
}

func TestAHoldCountsForWhoeverSpendsUntilItEnds(t *testing.T) {
	dir := t.TempDir()
	now := time.UnixMilli(time.Now().UnixMilli())
	first, second := openIn(t, dir), openIn(t, dir)
	defer func() { _ = errors.Join(first.Close(), second.Close()) }()
	want := Hold{Key: "account", Until: now.Add(time.Hour), Reason: "the CA says so"}
	if err := errors.Join(first.Hold(t.Context(), Hold{Key: "account", Until: now.Add(time.Minute)}), first.Hold(t.Context(), want)); err != nil {
		t.Fatal(err)
	}
	use := Use{Key: "account", Limit: 5, Window: time.Hour}
	if hold, held := spend(t, second, now, use); !held || hold != want {
		t.Errorf("%v %+v", held, hold)
	}
	if list, err := second.Holds(t.Context(), now); err != nil || len(list) != 1 || list[0] != want {
		t.Errorf("%+v, %v", list, err)
	}
	if _, held := spend(t, second, now.Add(time.Hour), use); held {
		t.Error("held for longer than it was to be")
	}
}

func TestAUseFromAClockThatWasWrongDoesNotCountForYears(t *testing.T) {
	db := openIn(t, t.TempDir())
	defer func() { _ = db.Close() }()
	use := Use{Key: "account", Limit: 1, Window: time.Hour}
	spend(t, db, time.Now().AddDate(5, 0, 0), use)
	if hold, held := spend(t, db, time.Now(), use); held {
		t.Errorf("held: %+v", hold)
	}
}

func TestOnlySoManyUsesAreKept(t *testing.T) {
	dir := t.TempDir()
	db := openIn(t, dir)
	defer func() { _ = db.Close() }()
	exec(t, filepath.Join(dir, File), fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)
		INSERT INTO uses(key, at, until) SELECT 'k'||i, 1, 9000000000000 FROM n`, maxUses+10))
	spend(t, db, time.Now(), Use{Key: "account", Limit: 1, Window: time.Hour})
	var count int
	if err := db.db.QueryRowContext(t.Context(), "SELECT count(*) FROM uses").Scan(&count); err != nil || count > maxUses+1 {
		t.Errorf("%d uses, %v", count, err)
	}
}

func TestAQueueIsWorkedOffInTheOrderInWhichItsBatchesCame(t *testing.T) {
	dir := t.TempDir()
	db := openIn(t, dir)
	if err := errors.Join(db.Add(t.Context(), 1, []string{"b.test", "a.test"}), db.Add(t.Context(), 2, []string{"c.test"}), db.Close()); err != nil {
		t.Fatal(err)
	}
	db = openIn(t, dir)
	defer func() { _ = db.Close() }()
	wantPending(t, db, 0, "a.test", "b.test", "c.test")
	wantPending(t, db, 2, "c.test")
	if err := errors.Join(db.Finish(t.Context(), "a.test", ""), db.Finish(t.Context(), "b.test", "no rule names it")); err != nil {
		t.Fatal(err)
	}
	wantPending(t, db, 0, "c.test")
	if done, failed, err := db.Finished(t.Context(), 1); done != 1 || failed != 1 || err != nil {
		t.Errorf("%d done, %d failed, %v", done, failed, err)
	}
	if err := db.Add(t.Context(), 3, []string{"b.test"}); err != nil {
		t.Fatal(err)
	}
	wantPending(t, db, 3, "b.test")
}

func wantPending(t *testing.T, db *DB, batch int64, want ...string) {
	t.Helper()
	got, err := db.Pending(t.Context(), batch)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("batch %d: %v, %v; want %v", batch, got, err, want)
	}
}

func TestAQueueThatWouldBeTooLongStaysAsItIs(t *testing.T) {
	dir := t.TempDir()
	db := openIn(t, dir)
	defer func() { _ = db.Close() }()
	exec(t, filepath.Join(dir, File), fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)
		INSERT INTO queue(name, batch) SELECT 'h'||i||'.test', 1 FROM n`, maxQueue))
	if err := db.Add(t.Context(), 2, []string{"new.test", "h1.test"}); !errors.Is(err, ErrQueueFull) {
		t.Errorf("got %v", err)
	}
	wantPending(t, db, 2)
}
