// Package box boots a real systemd in namespaces of its own, in a second, for tests of units, sockets and restarts. It
// needs root, cgroup2, and Debian's systemd, dbus and iproute2.
package box

import (
	"bytes"
	"context"
	_ "embed" // for the script
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

//go:embed box.sh
var script string

// Box is a booted machine.
type Box struct {
	test   *testing.T
	folder string
	cgroup string
	first  *exec.Cmd // unshare; its child is the box's PID 1
	init   int       // that PID 1, as seen from outside
}

// Boot boots a box that ends with the test. Each folder of shared is seen inside at the same path, and can be written.
func Boot(t *testing.T, shared ...string) *Box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a box needs root: run scripts/test.sh, or this test with sudo")
	}
	b := &Box{test: t, folder: t.TempDir()}
	b.makeCgroup()
	path := filepath.Join(b.folder, "box.sh")
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	b.start(path, shared)
	t.Cleanup(b.end)
	b.waitUntilUp()
	return b
}

// makeCgroup gives the box a group of its own, so that boxes and the machine's services stay apart.
func (b *Box) makeCgroup() {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		b.test.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); fields[2] == "cgroup2" {
			b.cgroup = filepath.Join(fields[1], fmt.Sprintf("cutover-box-%d-%d", os.Getpid(), time.Now().UnixNano()))
			if err := os.Mkdir(b.cgroup, 0o755); err != nil {
				b.test.Fatal(err)
			}
			return
		}
	}
	b.test.Fatal("cgroup2 is not mounted; a box needs it")
}

func (b *Box) start(path string, shared []string) {
	group, err := os.Open(b.cgroup)
	if err != nil {
		b.test.Fatal(err)
	}
	defer func() { _ = group.Close() }()
	arguments := append([]string{"--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup", "--net", "bash", path, filepath.Join(b.folder, "box")}, shared...)
	b.first = exec.CommandContext(context.Background(), "unshare", arguments...)
	b.first.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(group.Fd())}
	log, err := os.Create(filepath.Join(b.folder, "boot.log"))
	if err != nil {
		b.test.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	b.first.Stdout, b.first.Stderr = log, log
	if err := b.first.Start(); err != nil {
		b.test.Fatal(err)
	}
}

func (b *Box) waitUntilUp() {
	b.test.Helper()
	b.Eventually(30*time.Second, "booted systemd", func() bool {
		b.init = b.child()
		if b.init == 0 {
			return false
		}
		state, _ := b.Command(context.Background(), "systemctl", "is-system-running").Output()
		text := strings.TrimSpace(string(state))
		return text == "running" || text == "degraded"
	})
}

// child returns the pid of unshare's child; 0 if there is none yet.
func (b *Box) child() int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", b.first.Process.Pid, b.first.Process.Pid))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

func (b *Box) end() {
	if b.test.Failed() {
		journal, _ := b.Command(context.Background(), "journalctl", "--no-pager", "-n", "150", "-o", "cat", "-u", "cutover*").CombinedOutput()
		boot, _ := os.ReadFile(filepath.Join(b.folder, "boot.log"))
		b.test.Logf("the box's journal:\n%s\nits boot:\n%s", journal, boot)
	}
	_ = b.first.Process.Kill() // --kill-child ends PID 1 with it, and PID 1 everything else
	_ = b.first.Wait()         // killed
	b.Eventually(10*time.Second, "end of the box's cgroup", func() bool { return removeGroups(b.cgroup) == nil })
}

// removeGroups removes a cgroup and those below it, the innermost first.
func removeGroups(root string) error {
	var groups []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			groups = append(groups, path)
		}
		return err
	})
	for i := len(groups) - 1; i >= 0; i-- {
		err = errors.Join(err, syscall.Rmdir(groups[i]))
	}
	return err
}

// Command makes a command that runs inside; the test ends it if need be.
func (b *Box) Command(ctx context.Context, name string, arguments ...string) *exec.Cmd {
	inside := append([]string{"--target", strconv.Itoa(b.init), "--all", name}, arguments...)
	return exec.CommandContext(ctx, "nsenter", inside...)
}

// Run runs a shell line inside and returns what it prints; failing fails the test.
func (b *Box) Run(line string) string {
	b.test.Helper()
	output, err := b.Try(line)
	if err != nil {
		b.test.Fatalf("%s\n%v\n%s", line, err, output)
	}
	return output
}

// Try runs a shell line inside and returns what it prints on both streams.
func (b *Box) Try(line string) (string, error) {
	output, err := b.Command(context.Background(), "bash", "-c", line).CombinedOutput()
	return string(bytes.TrimSpace(output)), err
}

// Eventually waits until done says so.
func (b *Box) Eventually(atMost time.Duration, what string, done func() bool) {
	b.test.Helper()
	deadline := time.NewTimer(atMost)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			boot, _ := os.ReadFile(filepath.Join(b.folder, "boot.log"))
			b.test.Fatalf("no %s within %v\n%s", what, atMost, boot)
		}
	}
}
