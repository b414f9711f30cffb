package system

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cutover/scripts/e2e/box"
)

// machine is a box with Cutover installed, v1 and v2 behind it.
type machine struct {
	*box.Box
	t       *testing.T
	folder  string // shared with the box
	release string // the first release
}

// fromTest reads a variable that scripts/test.sh sets.
func fromTest(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run scripts/test.sh", name)
	}
	return value
}

// install boots a box and runs install.sh there with the release under test.
func install(t *testing.T) *machine {
	t.Helper()
	release, source := fromTest(t, "CUTOVER_RELEASE"), fromTest(t, "CUTOVER_SOURCE")
	m := &machine{t: t, folder: t.TempDir(), release: filepath.Base(release)}
	if err := os.Chmod(m.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	copyFile(t, release, filepath.Join(m.folder, m.release))
	m.Box = box.Boot(t, m.folder, source)
	m.Run("for name in shop other stranger; do echo 127.0.0.1 $name.test; done >>/etc/hosts")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, self, filepath.Join(m.folder, "service"))
	m.service("v1", "127.0.0.1:9001")
	m.service("v2", "127.0.0.1:9002")
	m.Run("bash " + source + "/scripts/install.sh " + filepath.Join(m.folder, m.release))
	m.Run("/opt/cutover/cutover upstreams set v1 http://127.0.0.1:9001 && /opt/cutover/cutover upstreams set v2 http://127.0.0.1:9002")
	return m
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// service starts a web service that says its name. It is this test's own program, started again.
func (m *machine) service(name, address string) {
	m.t.Helper()
	m.start("env", "E2E_SERVICE="+name, "E2E_ADDRESS="+address, filepath.Join(m.folder, "service"))
	m.Eventually(10*time.Second, "answer of "+name, func() bool {
		_, err := m.Try("curl -s --max-time 1 http://" + address + "/")
		return err == nil
	})
}

// start starts a program inside that ends with the test.
func (m *machine) start(name string, arguments ...string) *exec.Cmd {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	command := m.Command(ctx, name, arguments...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		cancel()
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		cancel()
		_ = command.Wait() // ended by our signal
	})
	return command
}

// startPebble starts an ACME server inside and returns its directory's URL; its root is /etc/cutover/pebble.pem.
func (m *machine) startPebble() string {
	m.t.Helper()
	copyFile(m.t, fromTest(m.t, "PEBBLE_BOX"), filepath.Join(m.folder, "pebble-box"))
	m.Run("mkdir -p /etc/cutover")
	ctx, cancel := context.WithCancel(context.Background())
	command := m.Command(ctx, filepath.Join(m.folder, "pebble-box"), "-root", "/etc/cutover/pebble.pem")
	output, err := command.StdoutPipe()
	if err != nil {
		cancel()
		m.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		cancel()
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		cancel()
		_ = command.Wait() // ended by our signal
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// next makes a later release out of a file, and returns its path inside and outside.
func (m *machine) next(content []byte, number int) string {
	m.t.Helper()
	stamp, err := time.Parse("20060102150405", strings.TrimPrefix(m.release, "cutover-"))
	if err != nil {
		m.t.Fatal(err)
	}
	path := filepath.Join(m.folder, "cutover-"+stamp.Add(time.Duration(number)*time.Second).Format("20060102150405"))
	if err := os.WriteFile(path, content, 0o755); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// releaseBytes is the release under test.
func (m *machine) releaseBytes() []byte {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(m.folder, m.release))
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

func (m *machine) script(name string) string {
	return filepath.Join(fromTest(m.t, "CUTOVER_SOURCE"), "scripts", name)
}
