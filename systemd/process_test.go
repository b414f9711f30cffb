package systemd

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAProcessTakesItsSocketsOverByNameAndLeavesTheOthersOpen(t *testing.T) {
	var files []*os.File
	var addresses []net.Addr
	for range 4 {
		address, file := descriptor(t)
		files, addresses = append(files, file), append(addresses, address)
	}
	got := runReport(t, child(t, "https:http:later:http", files...))
	want := []string{"http tcp " + addresses[1].String(), "http tcp " + addresses[3].String(), "https tcp " + addresses[0].String()}
	if got.Error != "" || !slices.Equal(got.Sockets, want) {
		t.Errorf("sockets %q, error %q; want %q", got.Sockets, got.Error, want)
	}
	if len(got.Environment) > 0 {
		t.Errorf("a child would believe in %q", got.Environment)
	}
	if slices.Sort(got.Open); !slices.Equal(got.Open, []string{"http", "http", "https", "later"}) {
		t.Errorf("open are %q; each name once for each socket was wanted", got.Open)
	}
	if got.Inheritable > 0 {
		t.Errorf("%d descriptors would be inherited by a child", got.Inheritable)
	}
	if !strings.Contains(got.Log, "socket=later") {
		t.Errorf("the log does not tell of the socket that was left alone: %s", got.Log)
	}
}

func TestADescriptorThatIsNoListeningSocketIsRefused(t *testing.T) {
	datagram, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = datagram.Close() }()
	address, _ := descriptor(t)
	connection, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	pipe, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = pipe.Close(), other.Close() }()
	for want, source := range map[string]interface{ File() (*os.File, error) }{
		"is not a stream socket: write ListenStream=":                  datagram,
		"is a single connection, not a listening socket: write Accept": connection.(*net.TCPConn),
	} {
		file, err := source.File()
		if err != nil {
			t.Fatal(err)
		}
		if got := runReport(t, child(t, "http", file)); !strings.Contains(got.Error, want) {
			t.Errorf("error %q, want one with %q", got.Error, want)
		}
		_ = file.Close()
	}
	if got := runReport(t, child(t, "http", pipe)); !strings.Contains(got.Error, "socket http cannot be used: descriptor 3 is no socket") {
		t.Errorf("a pipe: %q", got.Error)
	}
}

func TestABlockingSocketIsAWarningThatNamesTheLineOfTheUnit(t *testing.T) {
	for supervised, want := range map[bool]bool{true: true, false: false} {
		_, file := descriptor(t)
		if err := syscall.SetNonblock(int(file.Fd()), false); err != nil { // as with NonBlocking=no
			t.Fatal(err)
		}
		command := child(t, "http", file)
		if supervised {
			command.Env = append(command.Env, "NOTIFY_SOCKET=/nowhere")
		}
		got := runReport(t, command)
		if warned := strings.Contains(got.Log, "NonBlocking=yes"); warned != want || got.Error != "" {
			t.Errorf("under a service manager %t: warned %t, error %q", supervised, warned, got.Error)
		}
	}
}

func runReport(t *testing.T, command *exec.Cmd) (got reported) {
	t.Helper()
	out, err := command.Output()
	if err != nil {
		t.Fatalf("the child: %v", err)
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return got
}

func TestSocketsComeFromSystemdSocketActivateToo(t *testing.T) {
	tool, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Fatal("systemd-socket-activate is missing: install it with 'apt-get install systemd'")
	}
	addresses := map[string]string{HTTP: freePort(t), HTTPS: freePort(t)}
	command := exec.Command(tool, "--listen="+addresses[HTTP], "--listen="+addresses[HTTPS], "--fdname=http:https", "--setenv="+childMode, os.Args[0])
	command.Env = append(os.Environ(), childMode+"=answer")
	var output strings.Builder
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = command.Process.Kill() })
	defer timer.Stop()
	for _, name := range []string{HTTP, HTTPS} {
		if got := read(t, addresses[name]); got != name {
			t.Errorf("the socket %s answers %q", name, got)
		}
	}
	if err := command.Wait(); err != nil {
		t.Errorf("%v: %s", err, output.String())
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// read connects, as soon as that is possible, and reads to the end.
func read(t *testing.T, address string) string {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-ticker.C {
		conn, err := net.Dial("tcp", address)
		if errors.Is(err, syscall.ECONNREFUSED) && time.Now().Before(deadline) {
			continue // not listening yet
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(deadline)
		text, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}
