package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/rules"
)

// started opens the rules in dir once, without an owner, and says what the log said.
func started(t *testing.T, dir string) (version string, log string) {
	t.Helper()
	lines := &journal{}
	s, err := Open(t.Context(), Options{Dir: dir, Log: lines.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if fromSnapshot := s.thawed; fromSnapshot {
		return versionOf(s), "from the snapshot\n" + lines.String()
	}
	return versionOf(s), "from the tables\n" + lines.String()
}

func versionOf(s *Store) string { return version(s, "a.test") + version(s, "b.test") }

// stopped is a state directory with a.test on v2 and b.test on v1, whose owner has ended.
func stopped(t *testing.T) (dir string) {
	t.Helper()
	s, dir, stop := served(t)
	set(t, s, map[string]any{"host": "b.test", "percent": 0})
	stop()
	return dir
}

func TestAStartReadsTheSnapshotAndWhatWasChangedSince(t *testing.T) {
	dir := stopped(t)
	if got, log := started(t, dir); got != "v2v1" || !strings.HasPrefix(log, "from the snapshot") {
		t.Errorf("%s, %s", got, log)
	}
	mustSqlite(t, dir, "UPDATE rules SET percent=0 WHERE host='a.test'; UPDATE rules SET percent=100 WHERE host='b.test'; INSERT INTO rules(host,percent) VALUES('c.test',100); DELETE FROM rules WHERE host='c.test'")
	if got, log := started(t, dir); got != "v1v2" || !strings.HasPrefix(log, "from the snapshot") {
		t.Errorf("%s, %s", got, log)
	}
}

func TestAStopLeavesTheDatabaseInOneFile(t *testing.T) {
	s, dir, stop := served(t)
	if _, _, err := s.Rules(t.Context(), "", 1); err != nil { // through a connection that only reads
		t.Fatal(err)
	}
	set(t, s, map[string]any{"host": "b.test"})
	stop()
	if _, err := os.Stat(filepath.Join(dir, File+"-wal")); err == nil {
		t.Error("a part of it is in a log")
	}
}

func TestADamagedSnapshotIsFoundOut(t *testing.T) {
	dir := stopped(t)
	path := filepath.Join(dir, snapshotFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string][]byte{"empty": {}, "longer": append(bytes.Clone(good), 0)}
	for _, size := range []int{1, 63, 64, 67, 68, 100, len(good) - 1} {
		damaged[fmt.Sprintf("cut to %d", size)] = good[:size]
	}
	for at := range good {
		flipped := bytes.Clone(good)
		flipped[at] ^= 1 << (at % 8)
		damaged[fmt.Sprintf("a bit of byte %d", at)] = flipped
	}
	for name, text := range damaged {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := readSnapshot(dir); err == nil {
			t.Errorf("%s: it is read as good", name)
		}
	}
	if got, log := started(t, dir); got != "v2v1" || !strings.HasPrefix(log, "from the tables") || !strings.Contains(log, "cannot be used") {
		t.Errorf("%s, %s", got, log)
	}
}

func TestASnapshotOfAnotherDatabaseIsNotBelieved(t *testing.T) {
	dir, other := stopped(t), stopped(t)
	mustSqlite(t, other, "UPDATE rules SET percent=100")
	_, stop := start(t, other)
	stop()
	copyFile(t, filepath.Join(other, snapshotFile), filepath.Join(dir, snapshotFile))
	if got, log := started(t, dir); got != "v2v1" || !strings.Contains(log, "read anew") {
		t.Errorf("%s, %s", got, log)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestASnapshotFromTheFutureOfARestoredBackupIsNotBelieved(t *testing.T) {
	dir := stopped(t)
	backup := filepath.Join(t.TempDir(), "backup.db")
	mustSqlite(t, dir, ".backup "+backup)
	s, stop := start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 0})
	stop()
	mustSqlite(t, dir, ".restore "+backup)
	if got, log := started(t, dir); got != "v2v1" || !strings.Contains(log, "read anew") {
		t.Errorf("%s, %s", got, log)
	}
	// Another history with as many changes: only the nonce tells it from the snapshot's.
	mustSqlite(t, dir, "UPDATE rules SET percent=100 WHERE host='b.test'")
	if got, log := started(t, dir); got != "v2v2" || !strings.Contains(log, "read anew") {
		t.Errorf("with as many changes: %s, %s", got, log)
	}
}

func TestASnapshotIsNotBelievedWhereTriggersAreMissing(t *testing.T) {
	dir := stopped(t)
	mustSqlite(t, dir, "DROP TRIGGER rules_au; UPDATE rules SET percent=0")
	if got, log := started(t, dir); got != "v1v1" || !strings.HasPrefix(log, "from the tables") {
		t.Errorf("%s, %s", got, log)
	}
}

func TestWhatWasChangedWithTriggersOffIsFoundInTheBackground(t *testing.T) {
	dir := stopped(t)
	withoutTriggers(t, dir, "UPDATE rules SET percent=0 WHERE host='a.test'")
	s, _ := start(t, dir)
	eventually(t, "what was changed while nobody looked", func() bool { return versionOf(s) == "v1v1" })
	withoutTriggers(t, dir, "UPDATE rules SET percent=100 WHERE host='a.test'")
	eventually(t, "what was changed meanwhile", func() bool { return versionOf(s) == "v2v1" })
}

func withoutTriggers(t *testing.T, dir, statement string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sqlite3", "-cmd", ".dbconfig enable_trigger off", "-cmd", ".timeout 5000", filepath.Join(dir, File), statement)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
}

func TestASnapshotOfAnotherReleaseIsOnlyFallenBackOn(t *testing.T) {
	dir := stopped(t)
	l, _, err := readSnapshot(dir)
	if err != nil {
		t.Fatal(err)
	}
	frozen, err := l.view.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	frozen.Head = bytes.Replace(frozen.Head, []byte(fmt.Sprintf(`"Schema":%d`, rules.Schema)), []byte(`"Schema":999`), 1)
	if err := writeSnapshot(dir, l.mark, frozen); err != nil {
		t.Fatal(err)
	}
	mustSqlite(t, dir, "PRAGMA ignore_check_constraints=1; UPDATE rules SET percent=333 WHERE host='a.test'")
	if got, log := started(t, dir); got != "v2v1" || !strings.HasPrefix(log, "from the tables") {
		t.Errorf("%s, %s", got, log)
	}
}

func FuzzASnapshotIsReadOrRefused(f *testing.F) {
	dir := f.TempDir()
	view, _ := rules.Compile(rules.Rows{Lineage: "x", Rules: []rules.Rule{{ID: 1, Host: "a.test", Path: "/", Match: "prefix", V1: "v1", V2: "v2", Sticky: "cookie"}}}, nil, time.Now())
	if err := saveSnapshot(dir, loaded{view, mark{seq: 1}}); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, snapshotFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:70])
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, snapshotFile), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if l, _, err := readSnapshot(dir); err == nil {
			l.view.Match(&rules.Request{Host: "a.test", Path: "/"})
		}
	})
}

func TestTheSnapshotIsWrittenSoonAfterAnEdit(t *testing.T) {
	s, dir, _ := served(t)
	set(t, s, map[string]any{"host": "b.test", "percent": 100})
	want := s.Snapshot().Seq
	eventually(t, "the snapshot", func() bool {
		l, _, err := readSnapshot(dir)
		return err == nil && l.mark.seq == want
	})
	if l, _, _ := readSnapshot(dir); l.mark.nonce != s.Snapshot().nonce {
		t.Error("it has another nonce")
	}
}

func TestThePlacesThatChangedAreFoldedIntoTheTable(t *testing.T) {
	s, _, _ := served(t)
	set(t, s, map[string]any{"host": "b.test", "percent": 100})
	eventually(t, "folding", func() bool { return s.Load().Pending() == 0 })
	if versionOf(s) != "v2v2" {
		t.Error(versionOf(s))
	}
}

func TestManyChangesAtOnceAreReadAnew(t *testing.T) {
	s, dir, _ := served(t)
	mustSqlite(t, dir, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<25000) INSERT INTO rules(host,percent) SELECT 'h'||i||'.test',100 FROM n`)
	eventually(t, "all of them", func() bool { return version(s, "h1.test") == rules.V2 && version(s, "h25000.test") == rules.V2 })
	mustSqlite(t, dir, "DELETE FROM rules WHERE host='h1.test'")
	eventually(t, "the edit after them", func() bool { return version(s, "h1.test") == rules.V1 })
}

// expectTrue says that what serves is what the tables say, by reading everything, as soon as the last change is in force.
func expectTrue(t *testing.T, s *Store) {
	t.Helper()
	err := errNotYet
	eventually(t, "what the tables say", func() bool {
		err = s.readAside(context.Background(), func(q queryer) error { return expectServed(q, s) })
		return !errors.Is(err, errNotYet)
	})
	if err != nil {
		t.Error(err)
	}
}

var errNotYet = errors.New("the last change is not in force yet")

func expectServed(q queryer, s *Store) error {
	served := s.Snapshot()
	fresh, err := load(context.Background(), q, served.View, &s.options)
	if err != nil {
		return err
	}
	if fresh.mark.seq != served.Seq {
		return errNotYet
	}
	if n, some := rules.Difference(served.View, fresh.view); n > 0 {
		return fmt.Errorf("%d places differ, such as %v", n, some)
	}
	return nil
}
