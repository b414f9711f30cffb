package systemd

import (
	"context"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells systemd how the process is doing (sd_notify(3)). Where nobody asked for it, it does nothing.
type Notifier struct {
	send     func(state string)
	interval time.Duration // of the watchdog; 0 means none
}

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID.
func NewNotifier(getenv func(string) string) *Notifier {
	n := &Notifier{send: func(state string) {
		// A failed notification has no remedy: systemd times out and says so.
		_, _ = daemon.SdNotify(false, state)
	}}
	if getenv("NOTIFY_SOCKET") == "" {
		n.send = func(string) {}
	}
	if microseconds, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && microseconds > 0 {
		n.interval = time.Duration(microseconds) * time.Microsecond / 2
	}
	return n
}

// Ready ends the start: 'systemctl start' returns. status is the line that 'systemctl status' shows.
func (n *Notifier) Ready(status string) {
	n.send(daemon.SdNotifyReady + "\nSTATUS=" + oneLine(status))
}

// Status changes the line that 'systemctl status' shows.
func (n *Notifier) Status(status string) { n.send("STATUS=" + oneLine(status)) }

// Stopping says that the process is about to end.
func (n *Notifier) Stopping(status string) {
	n.send(daemon.SdNotifyStopping + "\nSTATUS=" + oneLine(status))
}

func oneLine(text string) string {
	line := []byte(text)
	for i, c := range line {
		if c == '\n' {
			line[i] = ' '
		}
	}
	return string(line)
}

// RunWatchdog pings systemd at half of WatchdogSec= for as long as alive says so, until ctx ends. When the pings stop,
// systemd restarts the service.
func (n *Notifier) RunWatchdog(ctx context.Context, alive func() bool) error {
	if n.interval == 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(n.interval)
	defer ticker.Stop()
	for {
		if alive() {
			n.send(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
