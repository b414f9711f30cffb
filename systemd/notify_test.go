package systemd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// manager listens where a service manager would.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)
	return conn
}

func received(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buffer := make([]byte, 4096)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return string(buffer[:n])
}

func TestTheServiceManagerHearsHowTheProcessDoes(t *testing.T) {
	conn := manager(t)
	n := NewNotifier(os.Getenv, nil)
	for _, step := range []struct {
		tell func()
		want string
	}{
		{func() { n.ExtendTimeout(90 * time.Second) }, "EXTEND_TIMEOUT_USEC=90000000"},
		{func() { n.Ready("3 rules") }, "READY=1\nSTATUS=3 rules"},
		{func() { n.Status("4 rules") }, "STATUS=4 rules"},
		{func() { n.Stopping("finishing") }, "STOPPING=1\nSTATUS=finishing"},
	} {
		step.tell()
		if got := received(t, conn); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}

func TestAStatusCannotCarryAnotherAssignment(t *testing.T) {
	conn := manager(t)
	n := NewNotifier(os.Getenv, nil)
	for text, want := range map[string]string{
		"rule 1\nMAINPID=1\r\n":   "STATUS=rule 1 MAINPID=1  ",
		"half a rune \xe2\x82":    "STATUS=half a rune ",
		strings.Repeat("€", 4000): "STATUS=" + strings.Repeat("€", maxStatus/3),
	} {
		n.Status(text)
		if got := received(t, conn); got != want {
			t.Errorf("%.40q became %.60q, want %.60q", text, got, want)
		}
	}
}

func TestWithoutAServiceManagerNothingIsSaid(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n := NewNotifier(os.Getenv, nil)
	n.send = func(state string) error {
		t.Errorf("said %q", state)
		return nil
	}
	n.Ready("")
	n.Status("")
	n.Stopping("")
	n.ExtendTimeout(time.Second)
	n.watchdog = func() (time.Duration, error) { return time.Second, nil }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.RunWatchdog(ctx, func() bool { return true }); err != nil {
		t.Error(err)
	}
}

func TestTheWatchdogHearsTwiceAnIntervalWhileAllIsWellAndNothingAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, pings := time.Now(), []time.Duration(nil)
		n := &Notifier{active: true, watchdog: func() (time.Duration, error) { return 10 * time.Second, nil }}
		n.send = func(state string) error {
			if state != "WATCHDOG=1" {
				t.Errorf("said %q", state)
			}
			pings = append(pings, time.Since(began))
			return nil
		}
		var well atomic.Bool
		well.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.RunWatchdog(ctx, well.Load) }()
		time.Sleep(12 * time.Second)
		well.Store(false)
		time.Sleep(time.Minute)
		well.Store(true) // it may recover before the service manager acts
		time.Sleep(4 * time.Second)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if want := []time.Duration{0, 5 * time.Second, 10 * time.Second, 75 * time.Second}; !slices.Equal(pings, want) {
			t.Errorf("pings after %v, want %v", pings, want)
		}
	})
}

func TestTheWatchdogsIntervalComesFromTheEnvironment(t *testing.T) {
	conn := manager(t)
	t.Setenv("WATCHDOG_USEC", "2000000")
	t.Setenv("WATCHDOG_PID", "")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- NewNotifier(os.Getenv, nil).RunWatchdog(ctx, func() bool { return true }) }()
	if got := received(t, conn); got != "WATCHDOG=1" {
		t.Errorf("got %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	t.Setenv("WATCHDOG_USEC", "often")
	if err := NewNotifier(os.Getenv, nil).RunWatchdog(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "WatchdogSec= in cutover.service") {
		t.Errorf("nonsense in WATCHDOG_USEC: %v", err)
	}
}

func TestANotificationThatFailsIsLoggedAndNoMore(t *testing.T) {
	var log strings.Builder
	n := &Notifier{active: true, Log: slog.New(slog.NewTextHandler(&log, nil)), send: func(string) error { return errors.New("nobody there") }}
	n.Ready("fine")
	if !strings.Contains(log.String(), "READY=1") || !strings.Contains(log.String(), "nobody there") {
		t.Errorf("the log says %q", log.String())
	}
}
