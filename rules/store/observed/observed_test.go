package observed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAttemptsAreKeptUntilTheyAreForgotten(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Attempt{Name: "a.test", Failures: 2, Next: time.UnixMilli(5000), Error: "dns", At: time.UnixMilli(1000)}
	for _, a := range []Attempt{{Name: "a.test", Failures: 1}, want, {Name: "b.test"}} {
		if err := db.SaveAttempt(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.DeleteAttempt(t.Context(), "b.test"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if got, err := db.Attempts(t.Context()); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestADamagedFileIsMovedAsideAndMadeAnew(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, File), []byte(strings.Repeat("noise ", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.SaveAttempt(t.Context(), Attempt{Name: "a.test"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, File+".damaged")); err != nil {
		t.Error(err)
	}
}
