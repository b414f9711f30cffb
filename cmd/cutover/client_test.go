package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"cutover/proxy/admin"
	"cutover/rules/store"
)

// The daemon's sandbox hides who holds the lock; the command line can see it.
func TestWhoeverHoldsTheLockIsNamed(t *testing.T) {
	dir := t.TempDir()
	opened, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	locked := &admin.Error{Status: http.StatusServiceUnavailable, Message: "the database is locked", Hint: "wait", Locked: true}
	if got := lockHint(locked, dir); got != "" {
		t.Errorf("nobody holds it, and yet %q", got)
	}
	pid := holdWriteLock(t, dir)
	if got, want := lockHint(locked, dir), fmt.Sprintf("pid %d (sqlite3) holds the lock: type COMMIT or ROLLBACK there, or end it", pid); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := lockHint(&admin.Error{}, dir); got != "" {
		t.Errorf("an error of another kind says %q", got)
	}
}

// holdWriteLock leaves a sqlite3 in a transaction until the test ends.
func holdWriteLock(t *testing.T, dir string) (pid int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sqlite3", filepath.Join(dir, store.File))
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
	return command.Process.Pid
}
