package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cutover/proxy/admin"
	"cutover/proxy/frontend"
	"cutover/rules/store"
	"cutover/systemd"
	"cutover/systemd/takeover"
	"cutover/tlsbridge"
)

// settled is a configuration in folders of the test's.
func settled(t *testing.T) Config {
	t.Helper()
	set := map[string]string{"state_dir": t.TempDir(), "runtime_dir": t.TempDir(), "acme.issuer": "off", "drain_timeout": "5s"}
	c, err := loadConfig("", set, func(string) string { return "" }, func(string) ([]byte, error) { return nil, os.ErrNotExist })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// atWork is a worker that runs, on a socket of the test's.
type atWork struct {
	*worker
	url   string
	stop  context.CancelFunc
	ended <-chan struct{}
	err   *error // may be read after it has ended
}

func startWorker(t *testing.T, c Config, successor *takeover.Successor) *atWork {
	t.Helper()
	return startWorkerOn(t, c, systemd.Sockets{systemd.HTTP: {listenHere(t)}}, successor, func(d *daemon) {
		d.handshaker = &tlsbridge.Handshaker{Config: &tls.Config{GetConfigForClient: tlsbridge.HelloArrived}} // before anybody asks for it
	})
}

func listenHere(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// startWorkerOn runs a worker on sockets of the test's; change may change it before it does.
func startWorkerOn(t *testing.T, c Config, sockets systemd.Sockets, successor *takeover.Successor, change func(*daemon)) *atWork {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	notifier := systemd.NewNotifier(func(string) string { return "" }, nil)
	d, err := openDaemon(ctx, c, successor != nil, sockets, notifier, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		stop()
		t.Fatal(err)
	}
	change(d)
	ended := make(chan struct{})
	w := &atWork{newWorker(d), "http://" + sockets[systemd.HTTP][0].Addr().String() + "/", stop, ended, new(error)}
	go func() {
		defer close(ended)
		*w.err = w.run(ctx, successor)
	}()
	t.Cleanup(w.wait(t)) // it writes into the test's folders until it has ended
	return w
}

// serving waits until the worker has its place.
func (w *atWork) serving(t *testing.T) *atWork {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(20 * time.Second); w.Worker().State != takeover.Serving; <-again.C {
		if time.Now().After(deadline) {
			t.Fatal("the worker does not serve")
		}
	}
	return w
}

func (w *atWork) end(t *testing.T) error {
	t.Helper()
	w.wait(t)()
	return *w.err
}

// wait returns a function that stops the worker and waits for its end.
func (w *atWork) wait(t *testing.T) func() {
	return func() {
		t.Helper()
		w.stop()
		select {
		case <-w.ended:
		case <-time.After(20 * time.Second):
			t.Fatal("the worker does not end")
		}
	}
}

// answers reports whether a new connection is answered within a time.
func (w *atWork) answers(within time.Duration) bool {
	client := http.Client{Timeout: within, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(w.url)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil
}

func TestAWorkerThatResumesAcceptsBeforeItHasTheRulesBack(t *testing.T) {
	c := settled(t)
	w := startWorker(t, c, nil).serving(t)
	if err := w.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Pause()
	dying, err := os.Open(filepath.Join(c.StateDir, "rules.lock")) // as a successor that has not quite ended holds it
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(dying.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	resumed := make(chan struct{})
	go func() { w.Resume(t.Context()); close(resumed) }()
	if !w.answers(3 * time.Second) {
		t.Error("requests wait for the rules' lock")
	}
	_ = dying.Close()
	<-resumed
	if !w.store.IsWriter() {
		t.Error("it is no writer in the end")
	}
	if err := w.end(t); err != nil {
		t.Error(err)
	}
}

func TestAWorkerThatStopsAcceptsNoMoreThoughItsSuccessorDies(t *testing.T) {
	w := startWorker(t, settled(t), nil).serving(t)
	if err := w.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Pause()
	held, err := net.Dial("tcp", w.url[len("http://"):len(w.url)-1]) // nobody accepts it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	w.giveUp(takeover.Draining, frontend.Grace{}, time.Minute) // what a stop does first
	w.Resume(t.Context())
	if state := w.Worker().State; state != takeover.Draining || w.answers(300*time.Millisecond) {
		t.Errorf("it is %s, and accepts", state)
	}
	if err := w.end(t); err != nil {
		t.Error(err)
	}
}

// stubborn is a worker that does not give way.
type stubborn struct{ takeover.Role }

func (stubborn) Worker() takeover.Worker       { return takeover.Worker{PID: 1, State: takeover.Serving} }
func (stubborn) Prepare(context.Context) error { return store.ErrBusyWriting }

func TestASuccessorThatIsRefusedLeavesTheAdminSocketToTheOneThatServes(t *testing.T) {
	c := settled(t)
	first := startWorker(t, c, nil).serving(t) // makes the database
	if err := first.end(t); err != nil {
		t.Fatal(err)
	}
	listener, err := admin.ListenUnix(adminSocket(c))
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Bool
	server := http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	successor := predecessor(t, c, stubborn{})
	err = startWorker(t, c, successor).end(t)
	if !errors.As(err, new(*takeover.RefusedError)) {
		t.Errorf("the successor says %v", err)
	}
	conn, err := net.Dial("unix", adminSocket(c))
	if err != nil {
		t.Fatal("nobody is at the admin socket any more:", err)
	}
	_ = conn.Close()
}

// predecessor runs a worker's side of the takeover, and returns the way to it.
func predecessor(t *testing.T, c Config, role takeover.Role) *takeover.Successor {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	server := takeover.Server{Dir: c.RuntimeDir, Role: role}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for {
		if err := server.Announce(); err != nil && t.Context().Err() != nil {
			t.Fatal(err)
		}
		successor, err := takeover.Find(t.Context(), c.RuntimeDir, takeover.Worker{})
		if err == nil {
			return successor
		}
		if !errors.Is(err, takeover.ErrNone) {
			t.Fatal(err)
		}
	}
}

// Drains begin in a goroutine of their own.
func TestAWorkerWhoseSuccessorDiesAtOnceServesWithAFrontendThatDoesNotDrain(t *testing.T) {
	w := startWorker(t, settled(t), nil).serving(t)
	for range 20 {
		if err := w.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Pause()
		w.Resume(t.Context())
		w.drains.Wait()
		if w.front.Load().Draining() || !w.answers(5*time.Second) {
			t.Fatal("it drains what serves")
		}
	}
	if err := w.end(t); err != nil {
		t.Error(err)
	}
}

// Each deploy of a bad release is such a takeover.
func TestFailedTakeoversLeaveNoGoroutineBehind(t *testing.T) {
	w := startWorker(t, settled(t), nil).serving(t)
	fail := func() {
		if err := w.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.Pause()
		w.Resume(t.Context())
		w.drains.Wait()
	}
	fail() // what begins only once has begun
	before := runtime.NumGoroutine()
	for range 20 {
		fail()
	}
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; <-again.C {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, now:\n%s", before, stacks[:runtime.Stack(stacks, true)])
		}
	}
	if err := w.end(t); err != nil {
		t.Error(err)
	}
}

// A frontend that was replaced by a Resume still drains, with all the time that a successor would have given it.
func TestAStopAfterAResumeEndsInItsTime(t *testing.T) {
	w := startWorker(t, settled(t), nil).serving(t)
	idle, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(w.url, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = idle.Close() }()
	if !w.answers(5 * time.Second) { // so it was accepted, too
		t.Fatal("it does not answer")
	}
	if err := w.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Pause()
	w.Resume(t.Context())
	began := time.Now()
	if err := w.end(t); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > w.config.DrainTimeout+4*time.Second {
		t.Errorf("it took %v, and its supervisor would have killed it", took)
	}
}

// New handshakes never end on a busy machine; what drains must not wait for them.
func TestTheOldFrontendOfAWorkerThatResumesEndsThoughHandshakesGoOn(t *testing.T) {
	w := startWorker(t, settled(t), nil).serving(t)
	if err := w.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, server := net.Pipe()
	w.handshaker.Handle(server)
	w.Pause()
	w.Resume(t.Context())
	during, server := net.Pipe()
	w.handshaker.Handle(server)
	_ = before.Close()
	drained := make(chan struct{})
	go func() { w.drains.Wait(); close(drained) }()
	select {
	case <-drained:
	case <-time.After(4500 * time.Millisecond): // before that handshake is given up
		t.Error("it still drains")
	}
	_ = during.Close()
	<-drained
	if err := w.end(t); err != nil {
		t.Error(err)
	}
}

// dying is a worker that is killed when it is to stop accepting.
type dying struct{ takeover.Role }

func (dying) Worker() takeover.Worker {
	return takeover.Worker{PID: 4194305, State: takeover.Serving} // an id above the kernel's highest
}
func (dying) Prepare(context.Context) error { return nil }
func (dying) Pause()                        { runtime.Goexit() } // which closes the connection

func TestASuccessorServesThoughItsPredecessorDiesWhileItGivesWay(t *testing.T) {
	c := settled(t)
	if err := startWorker(t, c, nil).serving(t).end(t); err != nil { // makes the database
		t.Fatal(err)
	}
	successor := predecessor(t, c, dying{})
	w := startWorker(t, c, successor).serving(t)
	if !w.answers(5 * time.Second) {
		t.Error("nobody serves")
	}
	if err := w.end(t); err != nil {
		t.Error(err)
	}
}
