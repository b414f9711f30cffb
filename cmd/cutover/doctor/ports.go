package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ports looks who listens on 80 and 443: systemd must, and nobody else.
func (x *examination) ports(context.Context) {
	if !x.Root {
		x.unseen("ports 80 and 443", "who holds them cannot be seen")
		return
	}
	systemd := x.socketsOf("1")
	var foreign, missing []string
	for _, port := range []int{80, 443} {
		inodes := x.listening(port)
		held := false
		for _, inode := range inodes {
			if slices.Contains(systemd, inode) {
				held = true
			} else {
				foreign = append(foreign, fmt.Sprintf("%s on port %d", x.holder(inode), port))
			}
		}
		if !held {
			missing = append(missing, strconv.Itoa(port))
		}
	}
	switch {
	case len(foreign) > 0:
		x.fail("ports 80 and 443", "besides systemd listens "+strings.Join(foreign, ", "), "let it listen on another port, which may become an upstream: cutover upstreams set")
	case len(missing) == 2:
		x.fail("ports 80 and 443", "nobody listens", "sudo systemctl start cutover-http.socket cutover-https.socket")
	case len(missing) > 0:
		x.warn("ports 80 and 443", "nobody listens on port "+missing[0], "unless that is meant: systemctl status 'cutover-*.socket'")
	default:
		x.ok("ports 80 and 443", "held by systemd alone")
	}
}

// listening returns the inodes of the sockets that listen on a port.
func (x *examination) listening(port int) (inodes []string) {
	suffix := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := x.read(table)
		if err != nil {
			continue // such as a kernel without IPv6
		}
		for line := range strings.Lines(text) {
			const local, state, inode, listen = 1, 3, 9, "0A"
			if f := strings.Fields(line); len(f) > inode && f[state] == listen && strings.HasSuffix(f[local], suffix) {
				inodes = append(inodes, f[inode])
			}
		}
	}
	return inodes
}

// socketsOf returns the inodes of the sockets that a process has open.
func (x *examination) socketsOf(pid string) (inodes []string) {
	folder := x.path("/proc/" + pid + "/fd")
	entries, _ := os.ReadDir(folder) // a process that has ended has none
	for _, entry := range entries {
		target, _ := os.Readlink(filepath.Join(folder, entry.Name()))
		if inode, found := strings.CutPrefix(target, "socket:["); found {
			inodes = append(inodes, strings.TrimSuffix(inode, "]"))
		}
	}
	return inodes
}

// holder names a process that has a socket.
func (x *examination) holder(inode string) string {
	entries, _ := os.ReadDir(x.path("/proc")) // without it nobody is found
	for _, entry := range entries {
		if _, err := strconv.Atoi(entry.Name()); err == nil && slices.Contains(x.socketsOf(entry.Name()), inode) {
			name, _ := x.read("/proc/" + entry.Name() + "/comm")
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(name), entry.Name())
		}
	}
	return "a process that cannot be found"
}
