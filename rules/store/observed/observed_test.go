package observed

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
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
	if got, known, err := db.Attempt(t.Context(), "a.test"); err != nil || !known || got != want {
		t.Errorf("%+v, %v, %v", got, known, err)
	}
	if _, known, err := db.Attempt(t.Context(), "b.test"); err != nil || known {
		t.Errorf("one that was forgotten: %v, %v", known, err)
	}
}

func TestADamagedFileIsMovedAsideAndMadeAnew(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"no database": func(t *testing.T, path string) {
			write(t, path, []byte(strings.Repeat("noise ", 2000)))
		},
		"noise in a page": func(t *testing.T, path string) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, append(text[:4096:4096], bytes.Repeat([]byte{0xA5}, len(text)-4096)...))
		},
		"another shape": func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			exec(t, path, "CREATE TABLE attempts(x)")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := openIn(t, dir)
			if err := errors.Join(db.SaveAttempt(t.Context(), Attempt{Name: "a.test"}), db.Close(), db.Damaged()); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(dir, File))
			db = openIn(t, dir)
			defer func() { _ = db.Close() }()
			if err := db.SaveAttempt(t.Context(), Attempt{Name: "a.test"}); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, File+".damaged")); err != nil {
				t.Error(err)
			}
			if err := db.Damaged(); err == nil || !strings.Contains(err.Error(), File+".damaged") {
				t.Errorf("it is said to be: %v", err)
			}
		})
	}
}

func TestAFileThatCannotBeHadJustNowStays(t *testing.T) {
	dir := t.TempDir()
	db := openIn(t, dir)
	if err := errors.Join(db.SaveAttempt(t.Context(), Attempt{Name: "a.test"}), db.Close()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	db = openIn(t, dir)
	defer func() { _ = db.Close() }()
	if got, err := db.Attempts(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOnlySoMuchIsKept(t *testing.T) {
	dir := t.TempDir()
	db := openIn(t, dir)
	defer func() { _ = db.Close() }()
	exec(t, filepath.Join(dir, File), fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)
		INSERT INTO attempts SELECT 'h'||i||'.test', 1, 0, '', i FROM n`, maxAttempts))
	newest := Attempt{Name: "new.test", Failures: 1, At: time.UnixMilli(maxAttempts + 1), Error: strings.Repeat("ä", maxError)}
	if err := db.SaveAttempt(t.Context(), newest); err != nil {
		t.Fatal(err)
	}
	got, err := db.Attempts(t.Context())
	if err != nil || len(got) != maxAttempts {
		t.Fatalf("%d attempts, %v", len(got), err)
	}
	if first, last := got[0], got[len(got)-1]; first.Name != "h2.test" || last.Name != "new.test" || len(last.Error) != maxError {
		t.Errorf("from %s to %s with %d bytes of error", first.Name, last.Name, len(last.Error))
	}
}

func TestWhatFailedOftenAndWaitsOutlivesWhatFailedOnce(t *testing.T) {
	dir := t.TempDir()
	db := openIn(t, dir)
	defer func() { _ = db.Close() }()
	later := time.Now().Add(time.Hour)
	exec(t, filepath.Join(dir, File), fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<%d)
		INSERT INTO attempts SELECT 'h'||i||'.stranger.test', 1, %d, '', i FROM n`, maxAttempts-2, later.UnixMilli()))
	often := Attempt{Name: "often.test", Failures: 3, Next: later, At: time.UnixMilli(0)}
	past := Attempt{Name: "past.test", Failures: 9, Next: time.UnixMilli(1), At: time.UnixMilli(maxAttempts)}
	for _, a := range []Attempt{often, past, {Name: "new.test", Failures: 1, Next: later, At: time.UnixMilli(maxAttempts)}} {
		if err := db.SaveAttempt(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]bool{"often.test": true, "new.test": true, "past.test": false} {
		if _, known, err := db.Attempt(t.Context(), name); known != want || err != nil {
			t.Errorf("%s: known %v, %v", name, known, err)
		}
	}
}

func openIn(t *testing.T, dir string) *DB {
	t.Helper()
	db, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// exec runs a statement as another program would.
func exec(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), statement)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
