package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Supervisor is the main process of cutover.service. It starts one worker, which gets the sockets, and does nothing else, so
// that 'systemctl restart' can be an upgrade: asked to make room (RestartKillSignal=SIGUSR1) it leaves at once, the worker
// serves on, and the worker of the next supervisor takes over from it.
type Supervisor struct {
	Program   string   // the worker's; a path that does not change while it runs
	Arguments []string // the worker's
	// MakeRoom is closed when the supervisor is to leave its worker alone; see MakeRoom.
	MakeRoom <-chan struct{}
	// StopAtMost is when a stop kills what has not ended: KillMode=process leaves that to us. 0 means never.
	StopAtMost time.Duration
	Log        *slog.Logger // nil discards

	line  *net.UnixConn
	ready atomic.Bool // the worker serves
}

// ErrWorkerEnded says that the worker has ended though nobody asked it to.
var ErrWorkerEnded = errors.New("the worker has ended")

// ErrWorkerHangs says that the worker was killed, since systemd's watchdog has not heard of it for too long.
var ErrWorkerHangs = errors.New("the worker hangs and was killed")

type makeRoomKey struct{}

// CatchMakeRoom returns a context that knows when SIGUSR1 has come. It is to be called first of all: systemd may send the
// signal to a process that has hardly begun.
func CatchMakeRoom(ctx context.Context) context.Context {
	asked, _ := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGUSR1)
	return context.WithValue(ctx, makeRoomKey{}, asked.Done())
}

// MakeRoom is closed when SIGUSR1 has come; never where CatchMakeRoom was not called.
func MakeRoom(ctx context.Context) <-chan struct{} {
	asked, _ := ctx.Value(makeRoomKey{}).(<-chan struct{})
	return asked
}

// Run starts the worker and returns when it has ended, or at once when room is to be made. When ctx ends it has the worker
// stop, and once the worker has been ready, every older one that still finishes what it has. An end of the worker that
// nobody asked for is ErrWorkerEnded. SIGABRT, by which systemd's watchdog ends this process, is meant for the worker.
func (s *Supervisor) Run(ctx context.Context) error {
	aborted := make(chan os.Signal, 1)
	signal.Notify(aborted, syscall.SIGABRT)
	defer signal.Stop(aborted)
	worker, err := s.start()
	if err != nil {
		return fmt.Errorf("start the worker: %w", err)
	}
	defer func() { _ = s.line.Close() }()
	ended := make(chan error, 1)
	go func() { ended <- awaitProcess(worker) }()
	go s.relay()
	select {
	case <-s.MakeRoom:
		return nil // the worker goes on
	case err := <-ended:
		return fmt.Errorf("%w: %w", ErrWorkerEnded, err)
	case <-aborted:
		return fmt.Errorf("%w: %w", ErrWorkerHangs, s.abort(worker, ended))
	case <-ctx.Done():
		return s.stop(worker, ended)
	}
}

// start makes the line and the process. The descriptors are handed on as they are: os/exec would switch them to blocking
// mode, under the hands of every process that shares them.
func (s *Supervisor) start() (pid int, err error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(ends[1]) }()
	if s.line, err = lineConn(uintptr(ends[0])); err != nil {
		return 0, err
	}
	sockets, _ := strconv.Atoi(os.Getenv("LISTEN_FDS")) // the worker says what is wrong with it
	sockets = min(max(sockets, 0), maxSockets)
	files := []uintptr{0, 1, 2}
	for fd := range sockets {
		files = append(files, uintptr(3+fd))
	}
	files = append(files, uintptr(ends[1]))
	return syscall.ForkExec(s.Program, append([]string{s.Program}, s.Arguments...), &syscall.ProcAttr{
		Env: workerEnvironment(os.Environ(), 3+sockets), Files: files,
	})
}

// workerEnvironment is what a worker gets: all but what is meant for this process alone.
func workerEnvironment(own []string, line int) []string {
	var env []string
	for _, variable := range own {
		switch name, _, _ := strings.Cut(variable, "="); name {
		case "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "MAINPID", lineVariable:
		default:
			env = append(env, variable)
		}
	}
	return append(env, lineVariable+"="+strconv.Itoa(line))
}

// relay passes on to systemd what the worker says, until the line ends. That it serves is noted first: whoever hears of it may
// stop the service at once.
func (s *Supervisor) relay() {
	buffer := make([]byte, 4096)
	for {
		n, err := s.line.Read(buffer)
		if err != nil {
			return
		}
		state := string(buffer[:n])
		if strings.HasPrefix(state, daemon.SdNotifyReady) {
			s.ready.Store(true)
		}
		if _, err := daemon.SdNotify(false, state); err != nil {
			s.log().Warn("systemd could not be notified", slog.Any("error", err))
		}
	}
}

// abortTime is how long a worker that hangs may take to write down where.
const abortTime = 2 * time.Second

// abort ends a worker that hangs: it would keep its place from any other.
func (s *Supervisor) abort(worker int, ended <-chan error) error {
	_ = syscall.Kill(worker, syscall.SIGABRT) // Go prints where every goroutine is
	select {
	case err := <-ended:
		return err
	case <-time.After(abortTime):
	}
	_ = syscall.Kill(worker, syscall.SIGKILL)
	return <-ended
}

// stop ends the worker, and what older ones still hold. A worker that was never ready has taken nothing over: then the one
// that serves is not to be stopped for its sake.
func (s *Supervisor) stop(worker int, ended <-chan error) error {
	if _, err := s.line.Write([]byte(stopCommand)); err != nil {
		_ = syscall.Kill(worker, syscall.SIGTERM) // it ends by itself where this fails
	}
	told := s.signalOthers(worker, syscall.SIGTERM)
	var tooLate <-chan time.Time
	if s.StopAtMost > 0 {
		tooLate = time.After(s.StopAtMost)
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for ended != nil || s.ready.Load() && len(s.others(worker)) > 0 {
		select {
		case err := <-ended:
			s.log().Debug("the worker has ended", slog.Any("how", err))
			ended = nil
		case <-tooLate:
			s.log().Error("what does not end is killed", slog.Duration("after", s.StopAtMost))
			if ended != nil { // else the id may be somebody else's by now
				_ = syscall.Kill(worker, syscall.SIGKILL)
			}
			_ = s.signalOthers(worker, syscall.SIGKILL)
		case <-again.C:
			told = told || s.signalOthers(worker, syscall.SIGTERM) // should it have become ready just now
		}
	}
	return nil
}

// signalOthers sends a signal to every older worker, if this one has taken over from them; it reports whether it has.
func (s *Supervisor) signalOthers(worker int, signal syscall.Signal) bool {
	if !s.ready.Load() {
		return false
	}
	for _, pid := range s.others(worker) {
		_ = syscall.Kill(pid, signal) // it may have ended meanwhile
	}
	return true
}

func (s *Supervisor) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// others returns the processes of the same service but this one and the worker.
func (s *Supervisor) others(worker int) []int {
	own, err := serviceOf(os.Getpid())
	if err != nil || !strings.HasSuffix(own, ".service") {
		return nil // a shell's other children are none of ours
	}
	text, err := os.ReadFile("/sys/fs/cgroup" + own + "/cgroup.procs")
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 && pid != worker && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// serviceOf returns the control group of a process, such as /system.slice/cutover.service.
func serviceOf(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if group, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSuffix(group, "\n"), nil
		}
	}
	return "", io.ErrUnexpectedEOF
}

// awaitProcess waits for a child and says how it ended.
func awaitProcess(pid int) error {
	for {
		var status syscall.WaitStatus
		switch _, err := syscall.Wait4(pid, &status, 0, nil); {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return err
		case status.Signaled():
			return fmt.Errorf("killed by %s", status.Signal())
		case status.Exited():
			return fmt.Errorf("exit status %d", status.ExitStatus())
		}
	}
}

// isReset reports whether the other end of a line or a connection is gone.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN)
}
