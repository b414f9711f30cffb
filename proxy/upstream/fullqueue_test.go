package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"cutover/rules"
)

// fullSocket listens on a socket whose queue is full, and returns what accepts one connection of it.
func fullSocket(t *testing.T) (path string, listener *net.UnixListener) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "full.sock")
	descriptor, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(syscall.Bind(descriptor, &syscall.SockaddrUnix{Name: path}), syscall.Listen(descriptor, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(descriptor), path)
	made, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	t.Cleanup(func() { _ = made.Close() })
	for { // until nobody has room any more
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			return path, made.(*net.UnixListener)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

func TestAConnectionWaitsForRoomInTheQueueOfASocket(t *testing.T) {
	path, listener := fullSocket(t)
	c := newConnections(Options{DialTimeout: time.Minute}, rules.Address{Protocol: rules.ProtocolHTTP, Network: "unix", Dial: path}, manner{})
	done := make(chan error, 1)
	go func() {
		conn, err := c.dial(context.Background())
		if err == nil {
			err = conn.Close()
		}
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = accepted.Close() }()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAConnectionWaitsForASocketNoLongerThanForAnyTarget(t *testing.T) {
	path, _ := fullSocket(t)
	set := newSet(t, Options{DialTimeout: 50 * time.Millisecond})
	began := time.Now()
	_, err := do(t.Context(), t, set.For(upstreamOf("unix:"+path)), http.MethodPost, "body")
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, syscall.EAGAIN) || !IsTimeout(err) {
		t.Errorf("got %v", err)
	}
	if passed := time.Since(began); passed < 50*time.Millisecond {
		t.Errorf("it gave up after %v", passed)
	}
}

func TestAVisitorWhoLeavesDoesNotWaitForASocket(t *testing.T) {
	path, _ := fullSocket(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := newConnections(Options{DialTimeout: time.Hour}, rules.Address{Protocol: rules.ProtocolHTTP, Network: "unix", Dial: path}, manner{})
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := c.dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
