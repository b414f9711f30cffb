package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"cutover/proxy/admin"
	"cutover/proxy/frontend"
	"cutover/systemd/takeover"
)

// worker is a daemon in the course of its life: it takes the place of another worker, serves, and gives its place to the
// next, whose predecessor it is then. It is the takeover.Role of the one that serves.
type worker struct {
	*daemon
	server    *takeover.Server
	group     *errgroup.Group        // of everything that runs
	base      func() context.Context // of a context that ends when all of it is to end
	committed chan struct{}          // closed when a successor has taken over for good
	ended     chan struct{}          // closed when somebody wants this worker to end now
	end       sync.Once              // of closing it
	drains    sync.WaitGroup         // of frontends
	needed    func()                 // called when it has its place: visitors depend on it from then on

	turn    sync.Mutex // held while it begins to accept, or stops to
	givenUp bool       // the frontend of the moment drains, or is about to; guarded by turn

	acceptedBefore atomic.Int64 // how many connections it had accepted when it gave up

	mu          sync.Mutex
	leaveAdmin  context.CancelFunc // ends the listener on the admin socket
	state       takeover.State
	changed     chan struct{} // closed at the next change of state
	predecessor *takeover.Successor
	cut         time.Time                               // when what is left is cut, once it drains
	draining    map[*frontend.Server]context.CancelFunc // those that drain, and what cuts them; a Resume leaves one behind
}

func newWorker(d *daemon) *worker {
	w := &worker{
		daemon: d, state: takeover.Loading, changed: make(chan struct{}), committed: make(chan struct{}), ended: make(chan struct{}),
		draining: map[*frontend.Server]context.CancelFunc{}, needed: func() {},
	}
	w.admin.Elsewhere = w.elsewhere
	w.server = &takeover.Server{Dir: d.config.RuntimeDir, Role: w, Log: d.log}
	return w
}

// run takes the place of successor's predecessor, if there is one, and serves until stop ends or another has taken over. Then
// it finishes what it has and waits for everything that it started.
func (w *worker) run(stop context.Context, successor *takeover.Successor) error {
	// Components outlive the signal: they serve while the drain goes on.
	base, cancel := context.WithCancel(context.WithoutCancel(stop))
	defer cancel()
	group, base := errgroup.WithContext(base)
	w.group, w.base = group, func() context.Context { return base }
	err := w.serve(stop, successor)
	if err == nil {
		w.await(stop)
	}
	cancel()
	return errors.Join(err, w.group.Wait(), w.close())
}

// serve starts everything, and returns when this worker has its place.
func (w *worker) serve(stop context.Context, successor *takeover.Successor) error {
	w.goAll(w.components())
	w.runFrontend(w.front.Load())
	w.certificates.Warm(stop)
	w.awaitTargets(stop)
	if err := w.probe(stop); err != nil {
		return err
	}
	if err := w.takePlace(stop, successor); err != nil {
		return err
	}
	w.needed()
	w.setState(takeover.Serving)
	if err := w.server.Announce(); err != nil {
		w.log.Warn("the next worker cannot take over from this one: a restart will be a stop and a start", slog.Any("error", err))
	}
	w.group.Go(func() error { w.endOldest(); return nil })
	w.notifier.Ready(w.summary())
	w.log.Info("ready", slog.String("version", version), slog.Int("hosts", w.store.Load().Counts().Hosts), slog.Duration("after", time.Since(w.started)))
	return nil
}

func (w *worker) goAll(components map[string]func(context.Context) error) {
	for name, run := range components {
		w.group.Go(func() error {
			if err := run(w.base()); err != nil && w.base().Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
}

// runFrontend runs a frontend until it has drained, or everything ends. One that has drained has a successor, which must not end
// for its sake.
func (w *worker) runFrontend(front *frontend.Server) {
	w.group.Go(func() error {
		err := front.Run(w.base())
		switch {
		case err == nil || w.base().Err() != nil:
			return nil
		case front.Draining():
			w.log.Warn("what was drained does not end", slog.Any("error", err))
			return nil
		}
		return fmt.Errorf("http: %w", err)
	})
}

// takePlace accepts connections, and makes sure that nobody else does.
func (w *worker) takePlace(stop context.Context, successor *takeover.Successor) error {
	if successor != nil && !w.store.IsWriter() { // else the database had to be changed before it could be loaded
		if err := successor.Prepare(); err != nil {
			return err
		}
	}
	if _, err := w.takeAdmin(); err != nil { // from here on edits come to this worker, and wait
		return err
	}
	w.goAll(map[string]func(context.Context) error{"admin": w.serveAdmin, "takeover": w.server.Run})
	if err := w.becomeWriter(stop); err != nil {
		return err
	}
	for _, acceptor := range w.acceptors {
		w.group.Go(func() error { return acceptor.Run(w.base()) })
	}
	if successor == nil {
		return nil
	}
	if err := successor.Accepting(); err != nil && !isGone(successor.Predecessor.PID) {
		return fmt.Errorf("the worker before this one does not stop accepting: %w", err)
	}
	w.mu.Lock()
	w.predecessor = successor
	w.mu.Unlock()
	w.group.Go(func() error { return w.commitAfterProbation(successor) })
	w.log.Info("taken over", slog.Int("from", successor.Predecessor.PID), slog.String("version", successor.Predecessor.Version))
	return nil
}

// isGone reports whether a process has ended, or does within a second: what it has been asked for needs no answer then.
func isGone(pid int) bool {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for range 100 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return true
		}
		<-again.C
	}
	return false
}

// becomeWriter takes the rules, which nobody holds any more.
func (w *worker) becomeWriter(stop context.Context) error {
	ctx, cancel := context.WithTimeout(stop, 10*time.Second)
	defer cancel()
	if err := w.store.Promote(ctx); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	return nil
}

// takeAdmin listens on the admin socket in the place of whoever did. The function that it returns ends this worker's own
// listener of before, if there is one.
func (w *worker) takeAdmin() (leaveBefore func(), err error) {
	listener, err := admin.ListenUnix(adminSocket(w.config))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(w.base())
	w.mu.Lock()
	before := w.leaveAdmin
	w.leaveAdmin = cancel
	w.mu.Unlock()
	w.group.Go(func() error {
		defer cancel()
		if err := w.admin.ServeUnix(ctx, listener); err != nil && ctx.Err() == nil {
			return fmt.Errorf("admin: %w", err)
		}
		return nil
	})
	return before, nil
}

// commitAfterProbation lets the predecessor end when this worker has done well for a while.
func (w *worker) commitAfterProbation(successor *takeover.Successor) error {
	timer := time.NewTimer(w.config.Probation)
	defer timer.Stop()
	select {
	case <-timer.C:
		w.commitPredecessor()
	case <-w.base().Done():
		successor.Abandon()
	}
	return nil
}

func (w *worker) commitPredecessor() {
	w.mu.Lock()
	predecessor := w.predecessor
	w.predecessor = nil
	w.mu.Unlock()
	if predecessor == nil {
		return
	}
	if err := predecessor.Commit(); err != nil {
		w.log.Warn("the worker before this one was gone before it could be told to end", slog.Any("error", err))
	}
}

// maxDraining is how many older workers may finish what they have at once.
const maxDraining = 8

// endOldest ends workers that finish what they have, if they are too many.
func (w *worker) endOldest() {
	var older []takeover.Worker
	for _, other := range takeover.Workers(w.base(), w.config.RuntimeDir) {
		if (other.State == takeover.Draining || other.State == takeover.Paused) && other.PID != os.Getpid() {
			older = append(older, other)
		}
	}
	for ; len(older) > maxDraining; older = older[1:] {
		w.log.Warn("too many workers finish what they have: the oldest is ended", slog.Int("pid", older[0].PID), slog.Any("held", older[0].Holds))
		w.metrics.Event("generation", "ended")
		if err := takeover.End(w.base(), w.config.RuntimeDir, older[0].PID); err != nil {
			w.log.Warn("it does not end", slog.Any("error", err))
		}
	}
}

// await returns when this worker has nothing left to do.
func (w *worker) await(stop context.Context) {
	select {
	case <-stop.Done():
	case <-w.base().Done(): // a component failed
	case <-w.ended:
	case <-w.committed:
	}
	if w.hasGivenUp() {
		w.awaitDrain(stop)
		return
	}
	w.mu.Lock()
	predecessor := w.predecessor
	w.mu.Unlock()
	if w.base().Err() == nil && predecessor != nil {
		w.commitPredecessor() // a stop is meant for both
	}
	w.stop()
}

// hasGivenUp reports whether a successor accepts in this worker's place. From then on it does not resume.
func (w *worker) hasGivenUp() bool {
	w.turn.Lock()
	defer w.turn.Unlock()
	if w.givenUp {
		w.setState(takeover.Draining)
	}
	return w.givenUp
}

// awaitDrain waits until a worker that was replaced has finished what it had.
func (w *worker) awaitDrain(stop context.Context) {
	done := make(chan struct{})
	go func() {
		w.drains.Wait()
		close(done)
	}()
	select {
	case <-done:
		return
	case <-w.ended:
		w.drainUntil(0)
	case <-stop.Done():
		w.drainUntil(w.config.DrainTimeout)
	case <-w.base().Done():
		w.drainUntil(0)
	}
	<-done
}

// stop is the end without a successor: new connections stay in the sockets' queues, and what is open is finished.
func (w *worker) stop() {
	w.notifier.Stopping("finishing what is open")
	w.log.Info("stopping", slog.Duration("at most", w.config.DrainTimeout))
	w.giveUp(takeover.Draining, frontend.Grace{}, w.config.DrainTimeout)
	w.drainUntil(w.config.DrainTimeout)
	w.awaitDrain(context.WithoutCancel(w.base()))
	w.log.Info("drained")
}

// giveUp accepts no more, and begins to finish what is there. What is left after atMost is cut.
func (w *worker) giveUp(state takeover.State, grace frontend.Grace, atMost time.Duration) {
	w.turn.Lock()
	defer w.turn.Unlock()
	w.setState(state)
	for _, acceptor := range w.acceptors {
		acceptor.Pause()
	}
	w.givenUp = true
	w.acceptedBefore.Store(w.accepted())
	front := w.front.Load()
	ctx, cancel := context.WithCancel(context.Background())
	w.mu.Lock()
	w.cut = time.Now().Add(atMost)
	w.draining[front] = cancel
	w.mu.Unlock()
	w.drains.Go(func() {
		overdue := time.AfterFunc(atMost, cancel)
		w.drain(ctx, front, grace)
		overdue.Stop()
		cancel()
		w.mu.Lock()
		delete(w.draining, front)
		w.mu.Unlock()
	})
}

// accepted counts the connections that this worker has accepted.
func (w *worker) accepted() (sum int64) {
	for _, acceptor := range w.acceptors {
		sum += acceptor.Accepted()
	}
	return sum
}

// drainUntil cuts everything that still drains after a time, if that is earlier than its own. What can be asked to end is asked
// before.
func (w *worker) drainUntil(atMost time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = time.Now().Add(atMost)
	for front, cancel := range w.draining {
		front.Hurry(w.cut)
		time.AfterFunc(atMost, cancel)
	}
}

func (w *worker) drain(ctx context.Context, front *frontend.Server, grace frontend.Grace) {
	if err := front.Drain(ctx, grace); err != nil {
		w.log.Warn("connections were cut at the drain deadline", slog.Any("error", err))
	}
	if w.front.Load() == front { // else they are another's
		if err := w.awaitHandshakes(ctx); err != nil {
			w.log.Warn("handshakes were cut at the drain deadline", slog.Int("pending", w.handshakes()))
		}
	}
}

// setState notes what this worker does. There is no way back from draining.
func (w *worker) setState(state takeover.State) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == takeover.Draining {
		return
	}
	w.state = state
	close(w.changed)
	w.changed = make(chan struct{})
}
