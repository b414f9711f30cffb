package systemd

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// childMode makes the test binary play a program that systemd starts; its value says what it does.
const childMode = "CUTOVER_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "":
		goleak.VerifyTestMain(m)
	case "report":
		os.Exit(report())
	case "answer":
		os.Exit(answer())
	case "supervise":
		os.Exit(superviseOthers())
	case "work":
		os.Exit(work())
	}
}

// reported is what the child found.
type reported struct {
	Sockets     []string
	Error       string
	Log         string
	Environment []string // LISTEN_… variables that are left
	Open        []string // the names of inherited sockets that the process still holds
	Inheritable int      // descriptors above 2 that a child would get
}

func report() int {
	before := inodes(strings.Split(os.Getenv("LISTEN_FDNAMES"), ":"))
	var log strings.Builder
	sockets, err := Inherit(InheritOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	runtime.GC() // what nobody holds on to would be closed now
	runtime.GC()
	found := reported{Sockets: sockets.Describe(), Log: log.String()}
	if err != nil {
		found.Error = err.Error()
	}
	for _, line := range os.Environ() {
		if strings.HasPrefix(line, "LISTEN_") {
			found.Environment = append(found.Environment, line)
		}
	}
	found.look(before)
	runtime.KeepAlive(sockets)
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		return 1
	}
	return 0
}

// inodes returns what stands behind the descriptors from 3 on.
func inodes(names []string) map[string]string {
	byInode := map[string]string{}
	for i, name := range names {
		if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", 3+i)); err == nil {
			byInode[link] = name
		}
	}
	return byInode
}

// look goes through the descriptors there are.
func (r *reported) look(byInode map[string]string) {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, path := range links {
		link, err := os.Readlink(path)
		if err != nil {
			continue
		}
		if name, ok := byInode[link]; ok {
			r.Open = append(r.Open, name)
			if info, _ := os.ReadFile(strings.Replace(path, "/fd/", "/fdinfo/", 1)); !closeOnExec(string(info)) {
				r.Inheritable++
			}
		}
	}
}

func closeOnExec(fdinfo string) bool {
	for line := range strings.Lines(fdinfo) {
		var flags int
		if n, _ := fmt.Sscanf(line, "flags: %o", &flags); n == 1 {
			return flags&0o2000000 != 0
		}
	}
	return false
}

// answer serves one connection on each of http and https with the socket's name.
func answer() int {
	sockets, err := Inherit(InheritOptions{})
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		return 1
	}
	for _, name := range []string{HTTP, HTTPS} {
		conn, err := sockets[name][0].Accept()
		if err != nil {
			return 1
		}
		_, _ = fmt.Fprint(conn, name)
		_ = conn.Close()
	}
	return 0
}

// child prepares the test binary to run as if systemd had started it, with descriptors from 3 on. LISTEN_PID must be the
// process's own id, which only a shell that becomes it knows.
func child(t *testing.T, names string, files ...*os.File) *exec.Cmd {
	t.Helper()
	command := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", childMode+"=report", fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+names)
	command.ExtraFiles = files
	return command
}

// descriptor returns a listener's address and a file of it.
func descriptor(t *testing.T) (net.Addr, *os.File) {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	file, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = file.Close(), listener.Close() })
	return listener.Addr(), file
}
