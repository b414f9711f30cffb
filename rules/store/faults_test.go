package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cutover/rules"
)

// served starts a store with a rule in force.
func served(t *testing.T) (s *Store, dir string, stop func()) {
	t.Helper()
	dir = t.TempDir()
	s, stop = start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 100})
	s.checkpointNow(t)
	return s, dir, stop
}

// checkpointNow waits until the database file itself has everything.
func (s *Store) checkpointNow(t *testing.T) {
	t.Helper()
	mustSqlite(t, filepath.Dir(s.path), "PRAGMA wal_checkpoint(TRUNCATE)")
}

// expectServing says that the last good rules serve, and that the problem is known in words.
func expectServing(t *testing.T, s *Store, words string) {
	t.Helper()
	eventually(t, "a problem with "+words, func() bool { return strings.Contains(s.Health().Problem, words) })
	if version(s, "a.test") != rules.V2 {
		t.Error("the last good rules do not serve")
	}
	if s.Health().Since.IsZero() {
		t.Error("nobody knows since when")
	}
}

func TestADamagedDatabaseKeepsServingAndARestoreHeals(t *testing.T) {
	s, dir, _ := served(t)
	backup := filepath.Join(t.TempDir(), "backup.db")
	mustSqlite(t, dir, ".backup "+backup)
	file, err := os.OpenFile(filepath.Join(dir, File), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 4096)
	for i := range noise {
		noise[i] = 0xA5
	}
	info, _ := file.Stat()
	for at := int64(4096); at < info.Size(); at += 4096 {
		if _, err := file.WriteAt(noise, at); err != nil {
			t.Fatal(err)
		}
	}
	// Closing it here would drop SQLite's locks; an operator's program has its own process. So it stays open.
	t.Cleanup(func() { _ = file.Close() })
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false); err == nil {
		t.Error("an edit of a damaged database was acknowledged")
	}
	expectServing(t, s, "damaged")
	mustSqlite(t, dir, ".restore "+backup)
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
	set(t, s, map[string]any{"host": "b.test"})
	if got := mustSqlite(t, dir, "PRAGMA integrity_check"); got != "ok" {
		t.Errorf("integrity: %s", got)
	}
}

func TestATableThatIsDroppedKeepsServingAndARestoreHeals(t *testing.T) {
	s, dir, _ := served(t)
	backup := filepath.Join(t.TempDir(), "backup.db")
	mustSqlite(t, dir, ".backup "+backup)
	mustSqlite(t, dir, "DROP VIEW v_status; DROP TABLE rules")
	expectServing(t, s, "restore a backup")
	mustSqlite(t, dir, ".restore "+backup)
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
	set(t, s, map[string]any{"host": "b.test", "percent": 100})
}

func TestAReplacedDatabaseKeepsServingAndRefusesEdits(t *testing.T) {
	s, dir, _ := served(t)
	path := filepath.Join(dir, File)
	other := t.TempDir()
	_, stop := start(t, other)
	stop()
	for _, step := range []func() error{
		func() error { return os.Rename(path, path+".old") },
		func() error { return os.Rename(filepath.Join(other, File), path) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	expectServing(t, s, "was replaced")
	if _, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false); err == nil || !strings.Contains(err.Error(), "was replaced") {
		t.Errorf("an edit into a file without a name was answered with %v", err)
	}
	if !s.Health().ReadOnly {
		t.Error("health does not say that edits are refused")
	}
	if err := os.Rename(path+".old", path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
	set(t, s, map[string]any{"host": "b.test"})
}

func TestARemovedDatabaseKeepsServing(t *testing.T) {
	s, dir, _ := served(t)
	if err := os.Remove(filepath.Join(dir, File)); err != nil {
		t.Fatal(err)
	}
	expectServing(t, s, "was replaced or removed")
}

// prompt starts a sqlite3 that holds the write lock until input is closed.
func prompt(t *testing.T, dir string) (input io.Closer, pid int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sqlite3", filepath.Join(dir, File))
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = command.Wait() })
	if _, err := io.WriteString(in, "BEGIN IMMEDIATE; SELECT 'held';\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return in, command.Process.Pid
}

func TestALockedDatabaseMakesEditsWaitAndThenSaysWhoHoldsIt(t *testing.T) {
	s, dir, _ := served(t)
	held, pid := prompt(t, dir)
	_, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("locked by pid %d (sqlite3)", pid)) {
		t.Errorf("got %v", err)
	}
	expectServing(t, s, "COMMIT or ROLLBACK")
	answered := make(chan error, 1)
	go func() {
		_, err := s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": "b.test"}}}, false)
		answered <- err
	}()
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("after the lock was gone: %v", err)
	}
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
}

func TestAFullDiskRefusesEditsKeepsServingAndHeals(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts a small file system and needs root: run scripts/test.sh, or sudo")
	}
	dir := t.TempDir()
	if err := syscall.Mount("small", dir, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s, _ := start(t, dir)
	set(t, s, map[string]any{"host": "a.test", "percent": 100})
	fill := filepath.Join(dir, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		_, err = s.Apply(t.Context(), Author{}, []Edit{{Table: TableRules, Row: map[string]any{"host": fmt.Sprintf("h%d.test", n), "note": strings.Repeat("x", 1000)}}}, false)
	}
	if err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Fatalf("got %v", err)
	}
	expectServing(t, s, "disk is full")
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	eventually(t, "healing", func() bool { return s.Health().Problem == "" })
	set(t, s, map[string]any{"host": "b.test", "percent": 100})
	if version(s, "b.test") != rules.V2 {
		t.Error("the edit after it is not in force")
	}
}

func TestASecondProcessOnTheSameStateIsRefused(t *testing.T) {
	dir := t.TempDir()
	child := startChild(t, dir)
	_, err := Open(t.Context(), Options{Dir: dir})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", child.Process.Pid)) {
		t.Errorf("got %v, want the pid %d", err, child.Process.Pid)
	}
}

// Four writers are killed at a random moment, sixty times, in one and the same directory.
func TestWhatWasAcknowledgedSurvivesKill9(t *testing.T) {
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(1, 1))
	for round := range 60 {
		if err := os.RemoveAll(dir); round%10 == 0 && err != nil {
			t.Fatal(err)
		}
		child := startChild(t, dir)
		last := child.acknowledged(1 + random.IntN(60))
		_ = child.Process.Kill()
		child.drain(last)
		_ = child.Wait()
		s, err := Open(t.Context(), Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		expectAcknowledged(t, s, last)
		expectTrue(t, s)
		expectJournalOfRules(t, dir)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// expectAcknowledged says that the last acknowledged rule of each writer is there. One in three is removed by the next
// edit, which may have been made without an answer.
func expectAcknowledged(t *testing.T, s *Store, last map[int]int) {
	t.Helper()
	for writer, n := range last {
		if host := fmt.Sprintf("h%d-%d.test", writer, n); n%3 != 1 && version(s, host) != rules.V2 {
			t.Errorf("%s, which was acknowledged, is lost", host)
		}
	}
}

// expectJournalOfRules says that the journal ends, for every row, with what the row is.
func expectJournalOfRules(t *testing.T, dir string) {
	t.Helper()
	image := imageSQL("r", imageColumns(TableRules))
	query := `PRAGMA integrity_check; WITH last AS (SELECT row, op, new, max(seq) FROM changes WHERE tbl='rules' GROUP BY row)
		SELECT (SELECT count(*) FROM rules r LEFT JOIN last ON last.row=r.id WHERE last.new IS NOT ` + image + `),
		(SELECT count(*) FROM last WHERE op<>'delete') - (SELECT count(*) FROM rules)`
	if got := mustSqlite(t, dir, query); got != "ok\n0|0" {
		t.Errorf("integrity; rows that are not as the journal says, rows that are missing: %s", got)
	}
}

// child is another process that holds the rules and adds one after the other, printing a line for each.
type child struct {
	*exec.Cmd
	lines *bufio.Scanner
}

func startChild(t *testing.T, dir string) *child { return startChildWith(t, dir) }

func startImporting(t *testing.T, dir string) *child { return startChildWith(t, dir, "STORE_IMPORT=1") }

func startChildWith(t *testing.T, dir string, environment ...string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: exec.CommandContext(t.Context(), self)}
	c.Env = append(append(os.Environ(), "STORE_CHILD="+dir), environment...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	c.lines = bufio.NewScanner(out)
	if !c.lines.Scan() {
		t.Fatal("the child ended")
	}
	return c
}

// acknowledged reads until n edits were acknowledged, and returns the last one of each writer.
func (c *child) acknowledged(n int) map[int]int {
	last := map[int]int{}
	for range n {
		if !c.lines.Scan() {
			break
		}
		note(last, c.lines.Text())
	}
	return last
}

// drain reads what else was acknowledged before the end.
func (c *child) drain(last map[int]int) {
	for c.lines.Scan() {
		note(last, c.lines.Text())
	}
}

func note(last map[int]int, line string) {
	var writer, n int
	if _, err := fmt.Sscan(line, &writer, &n); err == nil {
		last[writer] = n
	}
}
