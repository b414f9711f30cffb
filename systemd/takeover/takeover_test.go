package takeover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestASuccessorTakesOverStepByStep(t *testing.T) {
	dir, old := t.TempDir(), newRole()
	serve(t, dir, old)
	s := find(t, dir)
	if s.Predecessor.Version != "old" || s.Predecessor.State != Serving {
		t.Errorf("the predecessor is %+v", s.Predecessor)
	}
	old.expect(t)
	must(t, s.Prepare())
	old.expect(t, "prepare")
	must(t, s.Accepting())
	old.expect(t, "prepare", "pause")
	must(t, s.Commit())
	must(t, s.Commit())
	s.Abandon()
	old.expect(t, "prepare", "pause", "commit")
}

func TestWhereNobodyServesThereIsNothingToTakeOver(t *testing.T) {
	dir := t.TempDir()
	if _, err := Find(t.Context(), dir, Worker{}); !errors.Is(err, ErrNone) {
		t.Errorf("in an empty folder: %v", err)
	}
	stop := serve(t, dir, newRole())
	stop()
	if _, err := Find(t.Context(), dir, Worker{}); !errors.Is(err, ErrNone) {
		t.Errorf("after the end of one: %v", err)
	}
}

func TestASuccessorThatDiesBeforeItHasPreparedChangesNothing(t *testing.T) {
	dir, old := t.TempDir(), newRole()
	serve(t, dir, old)
	find(t, dir).Abandon()
	next := find(t, dir)
	old.expect(t)
	must(t, next.Prepare())
}

func TestASuccessorThatDiesBeforeItCommitsIsTakenBack(t *testing.T) {
	for name, upTo := range map[string]int{"after preparing": 1, "after accepting": 2} {
		t.Run(name, func(t *testing.T) {
			dir, old := t.TempDir(), newRole()
			serve(t, dir, old)
			s := find(t, dir)
			must(t, s.Prepare())
			want := []string{"prepare"}
			if upTo == 2 {
				must(t, s.Accepting())
				want = append(want, "pause")
			}
			s.Abandon()
			old.expect(t, append(want, "resume")...)
			again := find(t, dir)
			must(t, again.Prepare())
		})
	}
}

func TestANewSuccessorWaitsForOneThatIsAboutToServeAgain(t *testing.T) {
	dir, old := t.TempDir(), newRole()
	serve(t, dir, old)
	first := find(t, dir)
	must(t, first.Prepare())
	must(t, first.Accepting())
	found := make(chan error, 1)
	go func() {
		s, err := Find(t.Context(), dir, Worker{})
		if err == nil {
			s.Abandon()
		}
		found <- err
	}()
	first.Abandon()
	if err := <-found; err != nil {
		t.Errorf("the second found none: %v", err)
	}
}

// A restart during a start is meant for the newest release; the one before may hang, and nobody ends it.
func TestASuccessorThatStillLoadsIsPutAsideByAnother(t *testing.T) {
	dir, old := t.TempDir(), newRole()
	serve(t, dir, old)
	hangs := find(t, dir)
	must(t, find(t, dir).Prepare())
	if err := hangs.Prepare(); err == nil {
		t.Error("both take over")
	}
	old.expect(t, "prepare")
}

func TestOnlyOneTakesOverAtATime(t *testing.T) {
	dir, old := t.TempDir(), newRole()
	serve(t, dir, old)
	must(t, find(t, dir).Prepare())
	_, err := Find(t.Context(), dir, Worker{})
	refusedWith(t, err, "another worker is taking over already")
}

// It may have to change the database, and to load all of it, before it accepts.
func TestASuccessorMayLoadBetweenPreparingAndAccepting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newRole()
		ours, theirs := net.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- (&Server{Role: old}).giveWay(t.Context(), theirs) }()
		if _, err := expect(ours, typePrepared); err != nil {
			t.Fatal(err)
		}
		time.Sleep(110 * time.Second) // of the 120 that the unit gives it
		must(t, send(ours, message{Type: typeAccepting}))
		if _, err := expect(ours, typePaused); err != nil {
			t.Fatal(err)
		}
		must(t, send(ours, message{Type: typeCommit}))
		must(t, <-ended)
		old.expect(t, "prepare", "pause", "commit")
	})
}

func TestAPredecessorThatCannotGiveWayServesOn(t *testing.T) {
	dir, old := t.TempDir(), newRole()
	old.refusal = errors.New("an import is under way")
	serve(t, dir, old)
	refusedWith(t, find(t, dir).Prepare(), "an import is under way")
	old.expect(t)
}

func TestAnotherVersionOfTheProtocolIsRefused(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, newRole())
	conn, err := dial(t.Context(), filepath.Join(dir, currentName))
	must(t, err)
	defer func() { _ = conn.Close() }()
	must(t, send(conn, message{Type: typeHello, Protocol: 2, Worker: &Worker{}}))
	_, err = expect(conn, typeWelcome)
	refusedWith(t, err, "this worker knows version 1 of the takeover, not 2")
}

func TestNonsenseEndsTheConversationAndNothingElse(t *testing.T) {
	dir, old := t.TempDir(), newRole()
	serve(t, dir, old)
	for _, text := range []string{"\xff\xff\xff\xff", "\x00\x00\x00\x03abc", "\x00\x00\x00\x02{}", "GET / HTTP/1.1\r\n\r\n"} {
		conn, err := dial(t.Context(), filepath.Join(dir, currentName))
		must(t, err)
		_, err = io.WriteString(conn, text)
		must(t, err)
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if answer, err := io.ReadAll(conn); err != nil && !errors.Is(err, syscall.ECONNRESET) || strings.Contains(string(answer), typeWelcome) {
			t.Errorf("%q was answered with %q, %v", text, answer, err)
		}
		_ = conn.Close()
	}
	old.expect(t)
	find(t, dir)
}

func TestEveryWorkerSaysHowItDoes(t *testing.T) {
	dir, old := t.TempDir(), newRole()
	serve(t, dir, old)
	list := Workers(t.Context(), dir)
	if len(list) != 1 || list[0].Holds.Connections != 3 {
		t.Errorf("%+v", list)
	}
	must(t, End(t.Context(), dir, os.Getpid()))
	old.expect(t, "end")
}

func TestWhatAKilledWorkerLeavesBehindIsRemoved(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, workersDir), 0o700))
	path := filepath.Join(dir, workersDir, "4194305.sock") // above the kernel's highest process id
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	listener.SetUnlinkOnClose(false)
	must(t, listener.Close())
	if list := Workers(t.Context(), dir); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

// What is said is what neighbouring releases expect: a change here is a change of the protocol.
func TestMessagesAreTheSameFromReleaseToRelease(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	worker := &Worker{PID: 42, Version: "20300102030405+abc", Started: at, State: Draining, Holds: Holds{Connections: 4, Requests: 3, Tunnels: 2, Streams: 1, Late: 5}, Ends: at.Add(time.Hour)}
	for name, m := range map[string]message{
		"hello": {Type: typeHello, Protocol: 1, Worker: worker}, "welcome": {Type: typeWelcome, Protocol: 1, Worker: worker},
		"refused": {Type: typeRefused, Reason: "why"}, "prepare": {Type: typePrepare}, "prepared": {Type: typePrepared},
		"accepting": {Type: typeAccepting}, "paused": {Type: typePaused}, "commit": {Type: typeCommit},
		"status": {Type: typeStatus, Worker: worker}, "end": {Type: typeEnd},
	} {
		var sent bytes.Buffer
		must(t, send(&sent, m))
		path := filepath.Join("testdata", "v1", name)
		if *update {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, sent.Bytes(), 0o644))
		}
		golden, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(golden, sent.Bytes()) {
			t.Errorf("%s is now %q, it was %q", name, sent.Bytes(), golden)
		}
		got, err := receive(bytes.NewReader(golden))
		if again, _ := json.Marshal(got); err != nil || !bytes.Equal(again, golden[4:]) {
			t.Errorf("%s is read as %s, %v", name, again, err)
		}
	}
}

func TestAFieldOfALaterReleaseIsPassedOver(t *testing.T) {
	m, err := receive(strings.NewReader("\x00\x00\x00\x2f" + `{"type":"hello","protocol":1,"weather":"fine  "}`[:47]))
	if err == nil || m.Type != "" {
		t.Fatalf("a torn message was read: %+v", m)
	}
	text := `{"type":"hello","protocol":1,"weather":"fine"}`
	m, err = receive(strings.NewReader("\x00\x00\x00" + string(rune(len(text))) + text))
	if err != nil || m.Type != typeHello || m.Protocol != 1 {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzWhatComesIsAMessageOrAnError(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\x00\x00\x00\x0f{\"type\":\"hello\""))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := receive(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := send(&again, m); err != nil {
			t.Error(err)
		}
	})
}

func TestATimeThatHasRunOutDoesNotSayThatNobodyServes(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, newRole())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, dir, Worker{}); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("got %v", err)
	}
}
