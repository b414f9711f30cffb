package store

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cutover/rules"
)

// start opens the rules in dir and runs their owner until the test ends or stop is called.
func start(t *testing.T, dir string) (s *Store, stop func()) {
	t.Helper()
	s, err := Open(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

// leakCheck must be called first: cleanups run last to first.
func leakCheck(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}

// sqlite runs the sqlite3 program on the rules in dir, as an operator does, and returns what it prints.
func sqlite(t *testing.T, dir, statement string) (string, error) {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal("the sqlite3 program is not here: apt-get install sqlite3")
	}
	output, err := exec.CommandContext(t.Context(), program, "-cmd", ".timeout 5000", filepath.Join(dir, File), statement).CombinedOutput()
	return strings.TrimSpace(string(output)), err
}

func mustSqlite(t *testing.T, dir, statement string) string {
	t.Helper()
	output, err := sqlite(t, dir, statement)
	if err != nil {
		t.Fatalf("%s\n%v: %s", statement, err, output)
	}
	return output
}

// eventually waits until done says so.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// version says where a request for a host goes.
func version(s *Store, host string) string {
	d := s.Load().Match(&rules.Request{Host: host, Path: "/"})
	return d.Version
}

func set(t *testing.T, s *Store, row map[string]any) Result {
	t.Helper()
	result, err := s.Apply(t.Context(), Author{Name: "tester"}, []Edit{{Table: TableRules, Row: row}}, false)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// The generation of rules.db that this program makes, and that of a newer one.
var thisSchema, nextSchema = strconv.Itoa(rules.Schema), strconv.Itoa(rules.Schema + 1)
