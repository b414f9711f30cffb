package takeover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Role is what a worker does when another takes over from it. The calls of one takeover come one after the other, from a
// goroutine of the Server.
type Role interface {
	// Worker says who this is and how it does. It may be called at any time.
	Worker() Worker
	// Prepare gives up the writer's place. After an error all is as before.
	Prepare(ctx context.Context) error
	// Pause stops accepting and begins to finish what is there. When it returns, nothing more is accepted.
	Pause()
	// Resume takes back what Prepare and Pause gave away: the successor is gone.
	Resume(ctx context.Context)
	// Commit says that the successor does well: this worker may end when it has finished.
	Commit()
	// End has the worker end now, and cut what it holds.
	End()
}

// Server is a worker's side of the takeover: it answers successors, and those who want to know how the worker does.
type Server struct {
	Dir  string // for sockets; it is made if need be
	Role Role
	Log  *slog.Logger // nil discards

	mu        sync.Mutex
	successor *net.UnixConn // which is at it; nil for none
	prepares  bool          // it does not load any more: it has begun to take over
}

const (
	helloTime = 10 * time.Second // for the first message of a connection
	// PrepareTime is how long a successor waits for the writer's place: an import may have to come to its end.
	PrepareTime = 60 * time.Second
	// loadTime is how long a successor that holds the writer's place may take to accept: it may have to change the database
	// and load it first. It is what TimeoutStartSec= gives it; that it has died shows at once.
	loadTime = 2 * time.Minute
	stepTime = 20 * time.Second // for any other step
)

// Run listens until ctx ends. The socket is made known to successors by Announce.
func (s *Server) Run(ctx context.Context) error {
	listener, err := s.listen()
	if err != nil {
		return fmt.Errorf("takeover socket: %w", err)
	}
	var work sync.WaitGroup
	defer work.Wait()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	defer func() { _ = listener.Close() }() // removes the socket too
	for {
		conn, err := listener.AcceptUnix()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("takeover socket: %w", err)
		}
		work.Go(func() { s.answer(ctx, conn) })
	}
}

func (s *Server) listen() (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Join(s.Dir, workersDir), 0o700); err != nil {
		return nil, err
	}
	path := s.path()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
}

const (
	workersDir  = "workers"
	currentName = "takeover.sock"
)

func (s *Server) path() string {
	return filepath.Join(s.Dir, workersDir, strconv.Itoa(os.Getpid())+".sock")
}

// Announce makes this worker the one that successors find. It takes the place of another in one step.
func (s *Server) Announce() error {
	target := filepath.Join(workersDir, filepath.Base(s.path()))
	temporary := filepath.Join(s.Dir, fmt.Sprintf(".takeover-%d", os.Getpid()))
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(s.Dir, currentName))
}

// answer serves one connection.
func (s *Server) answer(ctx context.Context, conn *net.UnixConn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	if err := s.converse(ctx, conn); err != nil && ctx.Err() == nil {
		s.log().Warn("takeover", slog.Any("error", err))
	}
}

func (s *Server) converse(ctx context.Context, conn *net.UnixConn) error {
	if err := checkPeer(conn); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(helloTime))
	first, err := receive(conn)
	if err != nil {
		return err
	}
	worker := s.Role.Worker()
	switch first.Type {
	case typeStatus:
		return send(conn, message{Type: typeStatus, Worker: &worker})
	case typeEnd:
		s.Role.End()
		return send(conn, message{Type: typeEnd})
	case typeHello:
		return s.handOver(ctx, conn, first)
	}
	return refuse(conn, "there is no message "+strconv.Quote(first.Type))
}

// takenReason is a refusal that passes by itself, be it that the other is done or that it is dead.
const takenReason = "another worker is taking over already"

func refuse(conn net.Conn, reason string) error {
	return send(conn, message{Type: typeRefused, Reason: reason})
}

// handOver does this worker's part of a takeover.
func (s *Server) handOver(ctx context.Context, conn *net.UnixConn, hello message) error {
	if hello.Protocol != Protocol || hello.Worker == nil {
		return refuse(conn, fmt.Sprintf("this worker knows version %d of the takeover, not %d", Protocol, hello.Protocol))
	}
	if !s.take(conn) {
		return refuse(conn, takenReason)
	}
	defer s.untake(conn)
	worker := s.Role.Worker()
	if worker.State != Serving {
		return refuse(conn, "this worker is "+string(worker.State)+", it does not serve")
	}
	if err := send(conn, message{Type: typeWelcome, Protocol: Protocol, Worker: &worker}); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Time{}) // the successor loads for as long as it needs
	if _, err := expect(conn, typePrepare); err != nil {
		return nil // it has died while loading, or thought better of it: nothing has happened
	}
	if !s.begin(conn) {
		return refuse(conn, "a later worker takes over in its place")
	}
	s.log().Info("a successor takes over", slog.String("version", hello.Worker.Version), slog.Int("pid", hello.Worker.PID))
	return s.giveWay(ctx, conn)
}

// giveWay does what the successor asks for, and takes all of it back should that die before it commits.
func (s *Server) giveWay(ctx context.Context, conn net.Conn) error {
	preparing, cancel := context.WithTimeout(ctx, PrepareTime-stepTime/4)
	err := s.Role.Prepare(preparing)
	cancel()
	if err != nil {
		return errors.Join(err, refuse(conn, err.Error()))
	}
	if err := s.untilCommit(conn); err != nil {
		if ctx.Err() == nil {
			s.log().Warn("the successor is gone; this worker serves again", slog.Any("error", err))
			_ = conn.Close() // should it be there after all
			s.Role.Resume(ctx)
		}
		return nil
	}
	s.Role.Commit()
	return nil
}

func (s *Server) untilCommit(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(loadTime))
	if err := send(conn, message{Type: typePrepared}); err != nil {
		return err
	}
	if _, err := expect(conn, typeAccepting); err != nil {
		return err
	}
	s.Role.Pause()
	_ = conn.SetDeadline(time.Now().Add(stepTime))
	if err := send(conn, message{Type: typePaused}); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Time{}) // its end tells of the successor's death
	_, err := expect(conn, typeCommit)
	return err
}

// take lets a successor in. One that loads still is put aside: nobody waits for it any more, and it may hang.
func (s *Server) take(conn *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.successor != nil && s.prepares {
		return false
	}
	if s.successor != nil {
		_ = s.successor.Close() // it has asked for nothing yet
	}
	s.successor = conn
	return true
}

// begin reports false for a successor that was put aside.
func (s *Server) begin(conn *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.successor != conn {
		return false
	}
	s.prepares = true
	return true
}

func (s *Server) untake(conn *net.UnixConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.successor == conn {
		s.successor, s.prepares = nil, false
	}
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// expect receives a message of a type. What was refused is a *RefusedError.
func expect(conn net.Conn, kind string) (message, error) {
	m, err := receive(conn)
	switch {
	case err != nil:
		return m, err
	case m.Type == typeRefused:
		return m, &RefusedError{m.Reason}
	case m.Type != kind:
		return m, fmt.Errorf("%s came, not %s", strconv.Quote(m.Type), kind)
	}
	return m, nil
}

// RefusedError is what a predecessor says that does not give way.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "the worker that serves does not give way: " + e.Reason }
