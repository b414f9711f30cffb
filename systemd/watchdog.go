package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// RunWatchdog tells the service manager twice per WatchdogSec= that the process is alive, as long as alive says so,
// until ctx ends; it returns nil then. When alive stops saying so, or hangs, the service manager ends the process and
// starts it anew. Without a watchdog it only waits. An error means that WATCHDOG_USEC or WATCHDOG_PID makes no sense.
func (n *Notifier) RunWatchdog(ctx context.Context, alive func() bool) error {
	interval, err := n.watchdog()
	if err != nil {
		return fmt.Errorf("watchdog: leave WATCHDOG_USEC and WATCHDOG_PID to systemd (WatchdogSec= in cutover.service): %w", err)
	}
	if !n.active || interval <= 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(max(interval/2, time.Millisecond))
	defer ticker.Stop()
	for {
		n.ping(alive, interval)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (n *Notifier) ping(alive func() bool, interval time.Duration) {
	if alive() {
		n.notify(daemon.SdNotifyWatchdog)
		return
	}
	n.log().Error("the process is not well and stops telling systemd that it is; systemd restarts it if this lasts", slog.Duration("watchdog", interval))
}
