// Package systemd is what the program and systemd say to each other: the sockets that it inherits, by name, and the
// notifications that it sends. systemd/units has the unit files.
package systemd

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// The names that sockets are known by: FileDescriptorName= in their units.
const (
	HTTP  = "http"
	HTTPS = "https"
	Admin = "admin"
)

// byHand is how to start the program without a unit.
const byHand = "start it with 'systemctl start cutover', or by hand: systemd-socket-activate -l 8080 -l 8443 --fdname=http:https cutover serve"

// Sockets has the inherited listeners by name; a name may come several times (IPv4 and IPv6). Their order within a name
// is systemd's.
type Sockets map[string][]net.Listener

// InheritOptions says what Inherit may use.
type InheritOptions struct {
	Log *slog.Logger // nil discards
	env *environment // nil means the real one
}

// environment is the operating system as far as Inherit needs it.
type environment struct {
	getenv func(string) string
	pid    func() int
	files  func() []*os.File // the inherited descriptors, named; it may be called once
}

func (o InheritOptions) environment() *environment {
	if o.env != nil {
		return o.env
	}
	return &environment{getenv: os.Getenv, pid: os.Getpid, files: func() []*os.File { return activation.Files(true) }}
}

func (o InheritOptions) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// Inherit takes the listening sockets over that systemd has opened, and clears the variables that named them. At least
// one of http and https must be there. A name that is not known is logged and left alone: the socket may be meant for
// another release. It may be called once in a process. Its errors name the line of the unit to mend.
func Inherit(o InheritOptions) (Sockets, error) {
	env := o.environment()
	if err := checkVariables(env); err != nil {
		return nil, err
	}
	sockets := Sockets{}
	for _, file := range env.files() {
		if !slices.Contains([]string{HTTP, HTTPS, Admin}, file.Name()) {
			o.log().Warn("an inherited socket has a name that is not known; it is left alone",
				slog.String("name", file.Name()), slog.String("known", "FileDescriptorName=http, https or admin"))
			continue
		}
		listener, err := listenerOf(file)
		if err != nil {
			return nil, err
		}
		sockets[file.Name()] = append(sockets[file.Name()], listener)
	}
	if len(sockets[HTTP])+len(sockets[HTTPS]) == 0 {
		return nil, fmt.Errorf("no socket is named http or https: put FileDescriptorName=http into [Socket] of its unit, or %s", byHand)
	}
	return sockets, nil
}

// checkVariables refuses what go-systemd would pass over in silence (sd_listen_fds(3)).
func checkVariables(env *environment) error {
	pid, count := env.getenv("LISTEN_PID"), env.getenv("LISTEN_FDS")
	if pid == "" && count == "" {
		return fmt.Errorf("no sockets were handed over: %s", byHand)
	}
	number, err := strconv.Atoi(pid)
	if err != nil {
		return fmt.Errorf("LISTEN_PID is %q, not a process id: %s", pid, byHand)
	}
	if number != env.pid() {
		return fmt.Errorf("LISTEN_PID is %d but this process is %d, so the sockets are somebody else's: in the unit, ExecStart= must start cutover itself; in a script, start it with exec", number, env.pid())
	}
	sockets, err := strconv.Atoi(count)
	if err != nil || sockets < 1 || sockets > 1000 {
		return fmt.Errorf("LISTEN_FDS is %q, not a number of sockets: put Sockets=cutover-http.socket cutover-https.socket into [Service]", count)
	}
	if names := env.getenv("LISTEN_FDNAMES"); names == "" {
		return errors.New("the sockets have no names: put FileDescriptorName=http (or https) into [Socket] of their units, or use --fdname=http:https")
	} else if got := strings.Count(names, ":") + 1; got != sockets {
		return fmt.Errorf("LISTEN_FDNAMES names %d sockets (%s) but LISTEN_FDS says %d: give each socket one FileDescriptorName=", got, names, sockets)
	}
	return nil
}

// listenerOf makes a listener of a descriptor, which it closes: the listener has one of its own.
func listenerOf(file *os.File) (net.Listener, error) {
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the socket named %s cannot be listened on (%w): its unit must say ListenStream=", file.Name(), err), file.Close())
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	return listener, nil
}

// Describe returns each socket as "name address", sorted.
func (s Sockets) Describe() []string {
	var lines []string
	for name, listeners := range s {
		for _, listener := range listeners {
			lines = append(lines, name+" "+listener.Addr().String())
		}
	}
	slices.Sort(lines)
	return lines
}
