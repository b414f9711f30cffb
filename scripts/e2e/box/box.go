// Package box boots a real systemd in namespaces of its own, in a second, for tests of units, sockets and restarts. It
// needs root, cgroup2, and systemd, dbus, iproute2 and util-linux as Debian has them.
package box

import (
	"bufio"
	"bytes"
	"context"
	_ "embed" // for the script
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed box.sh
var script string

// patience bounds every command that runs inside.
const patience = 3 * time.Minute

// Test is what a box lives in: a *testing.T, or a program that measures. Fatal ends the goroutine that calls it.
type Test interface {
	Helper()
	Cleanup(work func())
	TempDir() string
	Failed() bool
	Logf(format string, arguments ...any)
	Fatal(arguments ...any)
	Fatalf(format string, arguments ...any)
}

// Box is a booted machine. It ends with its test.
type Box struct {
	test   Test
	folder string
	shared []string
	group  string    // its cgroup
	layer  *exec.Cmd // holds the mount that keeps what was written, from boot to boot

	first *exec.Cmd     // unshare; its child is the box's PID 1
	ended chan struct{} // closed when first has ended
	init  int           // that PID 1, as seen from outside
}

// Boot boots a box that ends with the test. Each folder of shared is seen inside at the same path, and can be written.
func Boot(t Test, shared ...string) *Box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a box is for root: run scripts/test.sh e2e")
	}
	b := &Box{test: t, folder: t.TempDir(), shared: shared}
	for _, name := range []string{"layer", "root"} {
		if err := os.Mkdir(filepath.Join(b.folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(b.folder, "box.sh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.end)
	b.holdLayer()
	b.start()
	return b
}

// Reboot ends every process at once, as a power cut does, and boots again with what was written.
func (b *Box) Reboot() {
	b.test.Helper()
	b.stop()
	b.start()
}

// holdLayer mounts the layer in a mount namespace of its own, which lives as long as the process that it starts.
func (b *Box) holdLayer() {
	b.test.Helper()
	layer := filepath.Join(b.folder, "layer")
	b.layer = exec.CommandContext(context.Background(), "unshare", "--mount", "--propagation=private",
		"sh", "-c", `mount -t tmpfs -o mode=0755 layer "$1" && echo held && exec cat`, "sh", layer)
	b.layer.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	b.layer.Stderr = os.Stderr
	if _, err := b.layer.StdinPipe(); err != nil { // open for as long as the test lives
		b.test.Fatal(err)
	}
	output, err := b.layer.StdoutPipe()
	if err != nil {
		b.test.Fatal(err)
	}
	if err := b.layer.Start(); err != nil {
		b.test.Fatal(err)
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil || line != "held\n" {
		b.test.Fatalf("the layer was not mounted: %q, %v", line, err)
	}
}

// enterGroup is run by the process that becomes PID 1. It goes into the box's cgroup alone: with another process there, systemd
// could hand no controller on to its services.
const enterGroup = `echo 0 >"$1/cgroup.procs" && shift && exec unshare --cgroup bash "$@"`

func (b *Box) start() {
	b.test.Helper()
	var err error
	if b.group, err = makeGroup(); err != nil { // a new one each time: some kernels kill what is forked into one that was killed
		b.test.Fatal(err)
	}
	arguments := append([]string{
		"--target", strconv.Itoa(b.layer.Process.Pid), "--mount",
		"unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net",
		"bash", "-c", enterGroup, "box", b.group, filepath.Join(b.folder, "box.sh"), filepath.Join(b.folder, "layer"), filepath.Join(b.folder, "root"),
	}, b.shared...)
	b.first = exec.CommandContext(context.Background(), "nsenter", arguments...)
	b.first.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(b.folder, "boot.log"))
	if err != nil {
		b.test.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	b.first.Stdout, b.first.Stderr = log, log
	if err := b.first.Start(); err != nil {
		b.test.Fatal(err)
	}
	b.ended = make(chan struct{})
	go func(first *exec.Cmd, ended chan struct{}) { // ends with first, which stop ends and waits for
		_ = first.Wait() // the boot log says why
		close(ended)
	}(b.first, b.ended)
	b.waitUntilUp()
}

func (b *Box) waitUntilUp() {
	b.test.Helper()
	b.init = 0
	b.Eventually(60*time.Second, "booted systemd", func() bool {
		select {
		case <-b.ended:
			b.test.Fatalf("the box did not boot:\n%s", b.bootLog())
		default:
		}
		if b.init = b.child(); b.init == 0 {
			return false
		}
		state, _ := b.Command(context.Background(), "systemctl", "is-system-running").Output() // it fails until all is up
		text := strings.TrimSpace(string(state))
		return text == "running" || text == "degraded"
	})
}

// child returns the pid of unshare's child; 0 if there is none yet.
func (b *Box) child() int {
	pid := b.first.Process.Pid
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return child
}

func (b *Box) bootLog() string {
	text, _ := os.ReadFile(filepath.Join(b.folder, "boot.log")) // without it there is nothing to say
	return string(text)
}

// end ends the box and tells what its journal says if the test failed.
func (b *Box) end() {
	if b.test.Failed() && b.init != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		journal, _ := b.Command(ctx, "bash", "-c", `journalctl --no-pager -o short-precise -u 'cutover*' | grep -v '"msg":"request"' | tail -n 100`).CombinedOutput()
		b.test.Logf("the box's journal:\n%s\nits boot:\n%s", journal, b.bootLog())
	}
	if b.ended != nil {
		b.stop()
	}
	if b.layer != nil && b.layer.Process != nil {
		_ = b.layer.Process.Kill()
		_ = b.layer.Wait() // killed
	}
}

// stop ends every process of the box, and removes its cgroup.
func (b *Box) stop() {
	_ = b.first.Process.Kill() // --kill-child ends PID 1 with it, and PID 1 everything else
	killGroup(b.group)
	<-b.ended
	b.Eventually(10*time.Second, "end of the box's cgroup", func() bool { return removeGroup(b.group) == nil })
}

// Command makes a command that runs inside. The caller's context ends it.
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
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	command := b.Command(ctx, "bash", "-c", line)
	command.WaitDelay = time.Second // for what it leaves running with our pipe
	output, err := command.CombinedOutput()
	return string(bytes.TrimSpace(output)), err
}

// Start starts a program inside that ends with the test. Its output goes to w, or nowhere if w is nil.
func (b *Box) Start(w io.Writer, name string, arguments ...string) {
	b.test.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	command := b.Command(ctx, name, arguments...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	command.Stdout, command.Stderr = w, os.Stderr
	if err := command.Start(); err != nil {
		cancel()
		b.test.Fatal(err)
	}
	b.test.Cleanup(func() {
		cancel()
		_ = command.Wait() // ended by our signal
	})
}

// Eventually waits until done says so.
func (b *Box) Eventually(atMost time.Duration, what string, done func() bool) {
	b.test.Helper()
	deadline := time.NewTimer(atMost)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			b.test.Fatalf("no %s within %v\n%s", what, atMost, b.bootLog())
		}
	}
}
