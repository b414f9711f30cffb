package takeover

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var errStranger = errors.New("the other end is no worker of this service")

// checkPeer returns an error unless the other end runs as the same user and in the same control group: there, nothing but
// workers of this service runs.
func checkPeer(conn *net.UnixConn) error {
	pid, uid, err := peerOf(conn)
	if err != nil {
		return err
	}
	if !SameService(pid, uid) {
		return fmt.Errorf("%w: process %d, uid %d", errStranger, pid, uid)
	}
	return nil
}

// SameService reports whether a process runs as the same user and in the same control group as this one: then it is a worker
// of the same service, since nothing else runs there.
func SameService(pid, uid int) bool {
	if uid != os.Getuid() {
		return false
	}
	if pid == os.Getpid() {
		return true
	}
	own, err := groupOf(os.Getpid())
	if err != nil {
		return false
	}
	if members, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", own, "cgroup.procs")); err == nil {
		return slices.Contains(strings.Fields(string(members)), strconv.Itoa(pid))
	}
	theirs, err := groupOf(pid) // which a service may not see of a process in another user namespace
	return err == nil && own == theirs
}

func peerOf(conn *net.UnixConn) (pid, uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var credentials *unix.Ucred
	var asked error
	err = raw.Control(func(fd uintptr) {
		credentials, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, asked); err != nil {
		return 0, 0, err
	}
	return int(credentials.Pid), int(credentials.Uid), nil
}

// groupOf returns the control group of a process, such as /system.slice/cutover.service (cgroups(7)).
func groupOf(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if group, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(group), nil
		}
	}
	return "", errStranger
}
