package systemd

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// announcement is what the LISTEN_… variables say, checked.
type announcement struct {
	count      int
	names      []string // one for each descriptor
	supervised bool     // a service manager waits for our notifications, so a unit file is at hand to be mended
}

// byHand is how to start without units.
const byHand = "start cutover.service, or by hand: systemd-socket-activate -l 8080 -l 8443 --fdname=http:https cutover serve"

// maxSockets bounds LISTEN_FDS: a typing error must not make us walk through a billion descriptors.
const maxSockets = 1024

// announced reads and checks LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3)).
func announced(env environment) (announcement, error) {
	if env.getenv("LISTEN_FDS") == "" {
		return announcement{}, errors.New("systemd handed over no sockets (LISTEN_FDS is not set): " + byHand)
	}
	if err := checkPID(env); err != nil {
		return announcement{}, err
	}
	count, err := strconv.Atoi(env.getenv("LISTEN_FDS"))
	if err != nil || count < 1 || count > maxSockets {
		return announcement{}, fmt.Errorf("LISTEN_FDS=%s is not a number of sockets from 1 to %d: leave LISTEN_FDS to systemd, "+
			"and take it out of Environment= in cutover.service", quoted(env.getenv("LISTEN_FDS")), maxSockets)
	}
	names, err := announcedNames(env, count)
	return announcement{count: count, names: names, supervised: env.getenv("NOTIFY_SOCKET") != "" || env.getenv(lineVariable) != ""}, err
}

func checkPID(env environment) error {
	text := env.getenv("LISTEN_PID")
	pid, err := strconv.Atoi(text)
	switch {
	case text == "":
		return errors.New("LISTEN_FDS is set but LISTEN_PID is not: leave both to systemd; a script that sets them needs LISTEN_PID=$$ and exec")
	case err != nil || pid < 1:
		return fmt.Errorf("LISTEN_PID=%s is not a process id: leave LISTEN_PID to systemd, and take it out of Environment= in cutover.service", quoted(text))
	case pid != env.pid:
		return fmt.Errorf("the sockets are meant for process %d (LISTEN_PID), this is process %d: "+
			"write ExecStart=/opt/cutover/cutover serve without a shell around it, or let the script end with: LISTEN_PID=$$ exec cutover serve", pid, env.pid)
	}
	return nil
}

func announcedNames(env environment, count int) ([]string, error) {
	text := env.getenv("LISTEN_FDNAMES")
	if text == "" {
		return nil, fmt.Errorf("%d sockets without names (LISTEN_FDNAMES is not set): write FileDescriptorName=http (or https, admin) "+
			"into [Socket] of each .socket unit; by hand: systemd-socket-activate --fdname=http:https", count)
	}
	names := strings.Split(text, ":")
	if len(names) != count {
		return nil, fmt.Errorf("LISTEN_FDNAMES=%s has %d names for %d sockets: write FileDescriptorName=http (or https, admin) "+
			"into [Socket] of each .socket unit; by hand give --fdname= as many names as there are -l", quoted(text), len(names), count)
	}
	if i := slices.Index(names, ""); i >= 0 {
		return nil, fmt.Errorf("LISTEN_FDNAMES=%s names no socket in place %d: write FileDescriptorName=http (or https, admin) into [Socket] of its .socket unit", quoted(text), i+1)
	}
	return names, nil
}

// noneToServe is the error when there are sockets, but neither http nor https.
func noneToServe(strangers []string) error {
	if len(strangers) == 0 {
		return errors.New("there is no socket named http or https, only admin: " + byHand)
	}
	return fmt.Errorf("there is no socket named http or https, but %s: write FileDescriptorName=http (or https) into [Socket] of its .socket unit; "+
		"by hand: systemd-socket-activate -l 8080 -l 8443 --fdname=http:https cutover serve", quoted(strangers...))
}

// quoted shows values of the environment in messages, shortened: they may be anything.
func quoted(texts ...string) string {
	shown := make([]string, len(texts))
	for i, text := range texts {
		if len(text) > 60 {
			text = text[:60] + "…"
		}
		shown[i] = strconv.Quote(text)
	}
	return strings.Join(shown, ", ")
}
