package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// listen makes a listener of an inherited descriptor, and closes the file.
func listen(file *os.File, name string, supervised bool, log *slog.Logger) (net.Listener, error) {
	defer file.Close() //nolint:errcheck // net.FileListener works on a duplicate
	facts, err := inspect(file)
	if err != nil {
		return nil, fmt.Errorf("socket %s cannot be used: %w", name, err)
	}
	if err := facts.check(name); err != nil {
		return nil, err
	}
	if facts.blocking {
		reportBlocking(name, supervised, log)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("socket %s cannot be used: %w", name, err)
	}
	return listener, nil
}

// socketFacts are what decides whether a descriptor is of use.
type socketFacts struct {
	kind      int // SOCK_STREAM, …
	listening bool
	blocking  bool
}

// inspect asks the kernel. It never calls File.Fd, which would make the shared descriptor block.
func inspect(file *os.File) (facts socketFacts, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return facts, err
	}
	var problem error
	err = raw.Control(func(fd uintptr) { facts, problem = inspectDescriptor(int(fd)) })
	if err == nil {
		err = problem
	}
	return facts, err
}

func inspectDescriptor(fd int) (facts socketFacts, err error) {
	if facts.kind, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return facts, fmt.Errorf("descriptor %d is no socket: %w", fd, err)
	}
	accepts, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return facts, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return facts, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	facts.listening, facts.blocking = accepts == 1, flags&unix.O_NONBLOCK == 0
	return facts, nil
}

func (f socketFacts) check(name string) error {
	if f.kind != unix.SOCK_STREAM {
		return fmt.Errorf("socket %s is not a stream socket: write ListenStream= in its .socket unit, not ListenDatagram=, ListenSequentialPacket= or ListenFIFO=", name)
	}
	if !f.listening {
		return fmt.Errorf("socket %s is a single connection, not a listening socket: write Accept=no in its .socket unit, and call systemd-socket-activate without --accept", name)
	}
	return nil
}

// reportBlocking tells of a unit without NonBlocking=yes. The flag lives in the one open file description that all
// processes share: each start of a process would switch the running one to blocking calls, and its accept loop would
// hang, or take a connection after it was told to stop. Without a unit there is nobody to share with.
func reportBlocking(name string, supervised bool, log *slog.Logger) {
	level := slog.LevelDebug
	if supervised {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, "the socket was handed over in blocking mode: write NonBlocking=yes into [Service] of cutover.service", slog.String("socket", name))
}

// leaveAlone keeps a descriptor that we have no use for open for good, under a number that no garbage collection
// closes, and says so.
func leaveAlone(file *os.File, name string, log *slog.Logger) error {
	defer file.Close() //nolint:errcheck // the duplicate stays
	raw, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("socket %s cannot be left alone: %w", name, err)
	}
	var problem error
	err = raw.Control(func(fd uintptr) { _, problem = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, int(fd)) })
	if err == nil {
		err = problem
	}
	if err != nil {
		return fmt.Errorf("socket %s cannot be left alone: %w", name, err)
	}
	log.Warn("a socket with an unknown name is left alone: Cutover serves http, https and admin (FileDescriptorName= in its .socket unit)", slog.String("socket", name))
	return nil
}
