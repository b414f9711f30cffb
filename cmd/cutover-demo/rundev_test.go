package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWhatRunDevPrintsWorksWordForWord starts run-dev.sh as a newcomer would and types what it says to try.
func TestWhatRunDevPrintsWorksWordForWord(t *testing.T) {
	dev := startRunDev(t)
	for _, step := range []struct{ has, want string }{
		{"curl http://shop", `^v1: GET shop\.localhost:\d+/ over http for 127\.0\.0\.1`},
		{"percent = 100", `^$`},
		{"curl http://shop", `^v2: `},
		{"percent = 10 ", `^$`},
		{"uniq -c", `(?s)^ +\d\d v1\n +\d\d? v2\n$`},
		{"-c ", `^$`},
		{"-b ", `^(v2: .*\n){11}$`},
		{"curl -i", `(?s)^HTTP/1\.1 30\d .*\r\nLocation: http://shop\.localhost:\d+/new/page\?a=1\r\n`},
		{"--cacert", `^v[12]: GET shop\.localhost:\d+/ over https for `},
		{"'half'", `percent must be a number from 0 to 100`},
		{"export", `^$`},
		{"cutover explain", `(?s)10`},
		{"cutover status", `shop|rules`},
	} {
		dev.try(t, step.has, step.want)
	}
	if len(dev.lines) > 0 {
		t.Errorf("run-dev.sh prints lines that no step of this test ran: %q", dev.lines)
	}
}

// runDev is a running run-dev.sh and what it told to try, in order.
type runDev struct {
	root  string
	lines []string
	setup string // export lines, for every command after them
}

func startRunDev(t *testing.T) *runDev {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	command := exec.CommandContext(ctx, "./run-dev.sh")
	command.Dir = root
	command.Env = append(os.Environ(), "DEV_DIR="+t.TempDir())
	for _, name := range []string{"HTTP_PORT", "HTTPS_PORT", "V1_PORT", "V2_PORT"} {
		command.Env = append(command.Env, fmt.Sprintf("%s=%d", name, freePort(t)))
	}
	command.Stderr = os.Stderr
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 30 * time.Second
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait() // ended by our signal
	})
	return &runDev{root: root, lines: linesToTry(t, output)}
}

func freePort(t *testing.T) int {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

// linesToTry reads until the list ends, and goes on reading so that the script never blocks on its output.
func linesToTry(t *testing.T, output io.Reader) []string {
	t.Helper()
	var lines, all []string
	scanner := bufio.NewScanner(output)
	for scanner.Scan() {
		line := scanner.Text()
		all = append(all, line)
		if strings.HasPrefix(line, "The log follows") {
			go func() { _, _ = io.Copy(io.Discard, output) }() // ends with the pipe, when the script does
			return lines
		}
		if command, ok := strings.CutPrefix(line, "  "); ok && !strings.HasPrefix(command, "#") {
			lines = append(lines, command)
		}
	}
	t.Fatalf("run-dev.sh ended before it said what to try:\n%s", strings.Join(all, "\n"))
	return nil
}

// try runs the next printed line, which must contain has, until its output matches want. An edit takes some
// milliseconds until it is in force, hence more than one attempt.
func (d *runDev) try(t *testing.T, has, want string) {
	t.Helper()
	if len(d.lines) == 0 || !strings.Contains(d.lines[0], has) {
		t.Fatalf("the next line to try should contain %q; left are %q", has, d.lines)
	}
	line := d.lines[0]
	d.lines = d.lines[1:]
	if strings.HasPrefix(line, "export ") {
		d.setup += line + "\n"
	}
	pattern := regexp.MustCompile(want)
	deadline := time.Now().Add(10 * time.Second)
	for {
		command := exec.CommandContext(t.Context(), "bash", "-c", d.setup+line)
		command.Dir = d.root
		var failed *exec.ExitError
		output, err := command.Output()
		if errors.As(err, &failed) {
			output = append(output, failed.Stderr...) // nonsense is refused so, and that is right
		}
		if pattern.Match(output) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s\nprinted %q, want %s", line, output, want)
		}
	}
}
