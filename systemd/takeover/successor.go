package takeover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNone says that no worker serves: there is nothing to take over.
var ErrNone = errors.New("no worker serves")

// Successor is the side of the worker that takes over. Its methods are called in their order.
type Successor struct {
	Predecessor Worker

	mu   sync.Mutex
	conn *net.UnixConn // nil when it was closed
}

// againTime is how long a worker that has handed over may take to find out that its successor is dead.
const againTime = 3 * time.Second

// Find greets the worker that serves. ErrNone says that there is none. Where one would serve again in a moment, because its
// successor has just died, it waits for that; also for the end of another takeover.
func Find(ctx context.Context, dir string, self Worker) (*Successor, error) {
	ctx, cancel := context.WithTimeout(ctx, againTime)
	defer cancel()
	var last error
	for {
		s, err := greet(ctx, filepath.Join(dir, currentName), self)
		if ctx.Err() != nil && last != nil && err != nil {
			return nil, last // of the time that has run out nobody learns anything
		}
		last = err
		switch {
		case err == nil:
			return s, nil
		case passes(err) || somebodyPaused(ctx, dir):
		case isNobody(err):
			return nil, ErrNone
		default:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func passes(err error) bool {
	var refused *RefusedError
	return errors.As(err, &refused) && refused.Reason == takenReason
}

// isNobody reports whether nobody listens; a time that has run out does not say so.
func isNobody(err error) bool {
	return errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED)
}

// somebodyPaused reports whether a worker is there that would take back what it has handed over.
func somebodyPaused(ctx context.Context, dir string) bool {
	return slices.ContainsFunc(Workers(ctx, dir), func(w Worker) bool { return w.State == Paused })
}

func greet(ctx context.Context, path string, self Worker) (*Successor, error) {
	conn, err := dial(ctx, path)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(helloTime))
	s := &Successor{conn: conn}
	answer, err := s.ask(message{Type: typeHello, Protocol: Protocol, Worker: &self}, typeWelcome)
	if err == nil && answer.Worker == nil {
		err = errors.New("the worker that serves does not say who it is")
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	s.Predecessor = *answer.Worker
	return s, nil
}

func dial(ctx context.Context, path string) (*net.UnixConn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s is a %T", path, conn), conn.Close())
	}
	if err := checkPeer(unix); err != nil {
		return nil, errors.Join(err, unix.Close())
	}
	return unix, nil
}

func (s *Successor) ask(m message, kind string) (message, error) {
	if err := send(s.conn, m); err != nil {
		return message{}, err
	}
	return expect(s.conn, kind)
}

// Prepare has the predecessor give up the writer's place. A *RefusedError says why it does not.
func (s *Successor) Prepare() error {
	_ = s.conn.SetDeadline(time.Now().Add(PrepareTime))
	_, err := s.ask(message{Type: typePrepare}, typePrepared)
	return err
}

// Accepting tells the predecessor that we accept, and returns when it does not any more.
func (s *Successor) Accepting() error {
	_ = s.conn.SetDeadline(time.Now().Add(stepTime))
	if _, err := s.ask(message{Type: typeAccepting}, typePaused); err != nil {
		return err
	}
	return s.conn.SetDeadline(time.Time{})
}

// Commit lets the predecessor end when it has finished. Calling it again does nothing.
func (s *Successor) Commit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	err := errors.Join(send(s.conn, message{Type: typeCommit}), s.conn.Close())
	s.conn = nil
	return err
}

// Abandon ends the takeover: unless it is committed, the predecessor takes everything back.
func (s *Successor) Abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close() // it was only read
	}
	s.conn = nil
}

// Workers asks every worker how it does, the oldest first. One that does not answer within a second is left out; what a dead
// one has left behind is removed.
func Workers(ctx context.Context, dir string) []Worker {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	paths, _ := filepath.Glob(filepath.Join(dir, workersDir, "*.sock"))
	answers := make([]*Worker, len(paths))
	var asking sync.WaitGroup
	for i, path := range paths {
		asking.Go(func() { answers[i] = askStatus(ctx, path) })
	}
	asking.Wait()
	var list []Worker
	for _, worker := range answers {
		if worker != nil {
			list = append(list, *worker)
		}
	}
	slices.SortFunc(list, func(a, b Worker) int { return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.PID, b.PID)) })
	return list
}

func askStatus(ctx context.Context, path string) *Worker {
	conn, err := dial(ctx, path)
	if isNobody(err) && isDead(path) {
		_ = os.Remove(path) // of a worker that was killed
	}
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	answer, err := (&Successor{conn: conn}).ask(message{Type: typeStatus}, typeStatus)
	if err != nil {
		return nil
	}
	return answer.Worker
}

// isDead reports whether the process is gone that a worker's socket is named after.
func isDead(path string) bool {
	pid, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".sock"))
	return err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// End has the worker with an id end now, and cut what it holds.
func End(ctx context.Context, dir string, pid int) error {
	conn, err := dial(ctx, filepath.Join(dir, workersDir, fmt.Sprintf("%d.sock", pid)))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(stepTime))
	_, err = (&Successor{conn: conn}).ask(message{Type: typeEnd}, typeEnd)
	return err
}
