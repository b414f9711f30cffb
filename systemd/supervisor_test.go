package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// superviseOthers makes this process a supervisor of workers that are the same program again.
func superviseOthers() int {
	ctx, stop := context.WithCancel(CatchMakeRoom(context.Background()))
	defer stop()
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	go func() { <-terminated; stop() }()
	if err := os.Setenv(childMode, "work"); err != nil {
		return 3
	}
	s := Supervisor{Program: os.Args[0], Arguments: []string{"worker"}, MakeRoom: MakeRoom(ctx), StopAtMost: 2 * time.Second}
	if err := s.Run(ctx); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// work is a worker: it takes its sockets, says that it serves, and answers each connection with its id and what became of its
// supervisor. It ends when it is told to, or when a client says "end".
func work() int {
	line, err := OpenLine(os.Getenv)
	if err != nil || line == nil {
		_, _ = fmt.Fprintln(os.Stderr, "no line:", err)
		return 1
	}
	sockets, err := Inherit(InheritOptions{})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	told := make(chan struct{})
	alone := make(chan struct{})
	go func() {
		_ = line.Run(context.Background(), func() { close(told) })
		close(alone)
	}()
	NewNotifier(os.Getenv, line).Ready("served")
	hangs := make(chan struct{})
	go func() {
		<-told
		select {
		case <-hangs:
		default:
			os.Exit(0)
		}
	}()
	for {
		conn, err := sockets[HTTP][0].Accept()
		if err != nil {
			return 1
		}
		asked := make([]byte, 8)
		n, _ := conn.Read(asked)
		switch string(asked[:n]) {
		case "end":
			return 7
		case "hang":
			signal.Ignore(syscall.SIGABRT)
			close(hangs)
			_ = conn.Close()
			select {}
		case "alone":
			<-alone
		}
		_, _ = fmt.Fprint(conn, os.Getpid(), " ", nonBlocking(sockets[HTTP][0]))
		_ = conn.Close()
	}
}

func nonBlocking(l net.Listener) bool {
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return false
	}
	blocking := false
	_ = raw.Control(func(fd uintptr) {
		flags, _, _ := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
		blocking = flags&syscall.O_NONBLOCK == 0
	})
	return !blocking
}

// supervised is a supervisor with a worker, on a socket of the test's.
type supervised struct {
	*exec.Cmd
	address string
	manager *net.UnixConn
	log     *os.File // a pipe would be held by the worker too
}

func startSupervisor(t *testing.T) *supervised {
	t.Helper()
	var err error
	s := &supervised{manager: manager(t)}
	address, file := descriptor(t)
	if err := syscall.SetNonblock(int(file.Fd()), true); err != nil {
		t.Fatal(err)
	}
	s.address = address.String()
	s.Cmd = child(t, HTTP, file)
	s.Env = append(s.Env, childMode+"=supervise")
	if s.log, err = os.Create(filepath.Join(t.TempDir(), "log")); err != nil {
		t.Fatal(err)
	}
	s.Stderr = s.log
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Process.Kill()
		_ = s.Wait()
		_ = s.log.Close()
	})
	return s
}

func (s *supervised) said() string {
	text, _ := os.ReadFile(s.log.Name())
	return string(text)
}

// ask returns a worker's answer: its id, and whether its socket does not block.
func (s *supervised) ask(t *testing.T, what string) (pid int, nonBlocking bool) {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, what)
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	id, flag, _ := strings.Cut(string(text), " ")
	pid, _ = strconv.Atoi(id)
	return pid, flag == "true"
}

func TestAWorkerGetsTheSocketsAndSystemdHearsItThroughItsSupervisor(t *testing.T) {
	s := startSupervisor(t)
	if got := received(t, s.manager); got != "READY=1\nSTATUS=served" {
		t.Errorf("systemd hears %q", got)
	}
	pid, nonBlocking := s.ask(t, "who")
	if pid == 0 || pid == s.Process.Pid || !nonBlocking {
		t.Errorf("worker %d of supervisor %d, in non-blocking mode: %v", pid, s.Process.Pid, nonBlocking)
	}
}

func TestAskedToMakeRoomASupervisorLeavesAndItsWorkerServesOn(t *testing.T) {
	s := startSupervisor(t)
	received(t, s.manager)
	worker, _ := s.ask(t, "who")
	if err := s.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Fatalf("the supervisor: %v, %s", err, s.said())
	}
	if again, _ := s.ask(t, "alone"); again != worker {
		t.Errorf("worker %d answers, not %d", again, worker)
	}
	s.ask(t, "end")
}

func TestAKilledSupervisorLeavesItsWorkerServing(t *testing.T) {
	s := startSupervisor(t)
	received(t, s.manager)
	worker, _ := s.ask(t, "who")
	_ = s.Process.Kill()
	_ = s.Wait()
	if again, _ := s.ask(t, "alone"); again != worker {
		t.Errorf("worker %d answers, not %d", again, worker)
	}
	s.ask(t, "end")
}

func TestAStopEndsTheWorkerToo(t *testing.T) {
	s := startSupervisor(t)
	received(t, s.manager)
	worker, _ := s.ask(t, "who")
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("the supervisor: %v, %s", err, s.said())
	}
	if err := syscall.Kill(worker, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the worker is still there: %v", err)
	}
}

func TestTheEndOfAWorkerIsAnErrorThatSaysHowItEnded(t *testing.T) {
	s := startSupervisor(t)
	received(t, s.manager)
	s.ask(t, "end")
	if err := s.Wait(); err == nil || !strings.Contains(s.said(), "the worker has ended: exit status 7") {
		t.Errorf("%v, %q", err, s.said())
	}
}

func TestAWorkerThatHangsIsKilledForTheWatchdog(t *testing.T) {
	s := startSupervisor(t)
	received(t, s.manager)
	worker, _ := s.ask(t, "who")
	s.ask(t, "hang")
	if err := s.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err == nil || !strings.Contains(s.said(), "the worker hangs and was killed: killed by killed") {
		t.Errorf("%v, %q", err, s.said())
	}
	if err := syscall.Kill(worker, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the worker is still there: %v", err)
	}
}

func TestAStopKillsAWorkerThatHangs(t *testing.T) {
	s := startSupervisor(t)
	received(t, s.manager)
	worker, _ := s.ask(t, "who")
	s.ask(t, "hang")
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Errorf("the supervisor: %v, %s", err, s.said())
	}
	if err := syscall.Kill(worker, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the worker is still there: %v", err)
	}
}
