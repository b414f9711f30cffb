package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

// lineVariable tells a worker which descriptor is its end of the line to its supervisor.
const lineVariable = "CUTOVER_SUPERVISOR_FD"

// stopCommand is what a supervisor says to its worker before it waits for it to end. A supervisor that leaves says nothing:
// the line just ends.
const stopCommand = "stop"

// Line is a worker's end of the connection to its supervisor: what a worker tells systemd goes through it, since only the
// unit's main process may speak.
type Line struct{ conn *net.UnixConn }

// OpenLine returns the line that the environment tells of, nil where there is no supervisor. It prepares the environment
// for Inherit: a supervisor cannot know the id of its worker before there is one, and leaves LISTEN_PID to it.
func OpenLine(getenv func(string) string) (*Line, error) {
	text := getenv(lineVariable)
	if text == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%s is no descriptor: leave it to 'cutover supervise'", lineVariable, quoted(text))
	}
	conn, err := lineConn(uintptr(fd))
	if err != nil {
		return nil, fmt.Errorf("the line to the supervisor: %w", err)
	}
	return &Line{conn}, os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
}

// lineConn takes a descriptor over.
func lineConn(fd uintptr) (*net.UnixConn, error) {
	file := os.NewFile(fd, "line")
	defer func() { _ = file.Close() }() // FileConn has made its own
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("descriptor %d is a %T", fd, conn), conn.Close())
	}
	return unix, nil
}

// Run calls stop when the supervisor says so, and returns when the supervisor is gone or ctx ends. A worker whose supervisor
// has gone without a word serves on, until another takes over from it.
func (l *Line) Run(ctx context.Context, stop func()) error {
	ended := context.AfterFunc(ctx, func() { _ = l.conn.Close() })
	defer ended()
	defer func() { _ = l.conn.Close() }()
	buffer := make([]byte, 64)
	for {
		n, err := l.conn.Read(buffer)
		switch {
		case ctx.Err() != nil, errors.Is(err, io.EOF), isReset(err):
			return nil
		case err != nil:
			return fmt.Errorf("the line to the supervisor: %w", err)
		case string(buffer[:n]) == stopCommand:
			stop()
		}
	}
}

// notify passes a message on to systemd. Nobody hears it when the supervisor is gone, and that is no error: what this worker
// says is not asked for any more.
func (l *Line) notify(state string) error {
	_, err := l.conn.Write([]byte(state))
	if errors.Is(err, net.ErrClosed) || isReset(err) {
		return nil
	}
	return err
}
