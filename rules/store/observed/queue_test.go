package observed

import (
	"slices"
	"testing"
)

func TestNamesAreTakenOutOfTheQueueAndTheOthersStay(t *testing.T) {
	db, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, step := range []error{
		db.Add(t.Context(), 1, []string{"a.test", "b.test", "c.test", "done.test"}), db.Add(t.Context(), 2, []string{"d.test"}), db.Finish(t.Context(), "done.test", ""),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	missing, err := db.Remove(t.Context(), []string{"b.test", "done.test", "stranger.test"})
	if err != nil || !slices.Equal(missing, []string{"done.test", "stranger.test"}) {
		t.Errorf("missing %v, %v", missing, err)
	}
	for name, want := range map[string]bool{"a.test": true, "b.test": false, "done.test": false, "stranger.test": false} {
		if queued, err := db.Queued(t.Context(), name); err != nil || queued != want {
			t.Errorf("%s: %v, %v", name, queued, err)
		}
	}
	if left, err := db.Pending(t.Context(), 0); err != nil || !slices.Equal(left, []string{"a.test", "c.test", "d.test"}) {
		t.Errorf("left %v, %v", left, err)
	}
	if n, err := db.RemoveAll(t.Context()); err != nil || n != 3 {
		t.Errorf("removed %d, %v", n, err)
	}
	if done, failed, err := db.Finished(t.Context(), 0); err != nil || done != 1 || failed != 0 {
		t.Errorf("%d done, %d failed, %v", done, failed, err)
	}
}
