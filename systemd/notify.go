package systemd

import (
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells the service manager how the process does (sd_notify(3)). Where nobody listens, which is the case
// without NOTIFY_SOCKET, all its methods do nothing. They never fail the caller: a message that could not be sent is
// logged. It is safe for concurrent use.
type Notifier struct {
	Log *slog.Logger // nil discards; set it before use

	active   bool
	send     func(state string) error
	watchdog func() (time.Duration, error) // the interval that WatchdogSec= allows; 0 for no watchdog
}

// NewNotifier returns a notifier for the environment that getenv shows, which is that of this process. With a line, which may
// be nil, what it says goes to the supervisor.
func NewNotifier(getenv func(string) string, line *Line) *Notifier {
	if line != nil {
		return &Notifier{active: true, send: line.notify, watchdog: func() (time.Duration, error) { return daemon.SdWatchdogEnabled(false) }}
	}
	return &Notifier{
		active: getenv("NOTIFY_SOCKET") != "",
		send: func(state string) error {
			_, err := daemon.SdNotify(false, state)
			return err
		},
		watchdog: func() (time.Duration, error) { return daemon.SdWatchdogEnabled(false) },
	}
}

// Ready ends the start job: everything is loaded and the sockets are served. status is shown by systemctl status.
func (n *Notifier) Ready(status string) { n.notify(daemon.SdNotifyReady, "STATUS="+oneLine(status)) }

// Status changes the line that systemctl status shows.
func (n *Notifier) Status(text string) { n.notify("STATUS=" + oneLine(text)) }

// Stopping says that the process has begun to stop. From here on TimeoutStopSec= runs.
func (n *Notifier) Stopping(text string) {
	n.notify(daemon.SdNotifyStopping, "STATUS="+oneLine(text))
}

// ExtendTimeout asks for more time to start or stop, counted from now: to be repeated while long work makes progress.
func (n *Notifier) ExtendTimeout(by time.Duration) {
	n.notify("EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(by.Microseconds(), 10))
}

// notify sends assignments, in one message so that they take effect together.
func (n *Notifier) notify(assignments ...string) {
	if !n.active {
		return
	}
	if err := n.send(strings.Join(assignments, "\n")); err != nil {
		n.log().Warn("systemd could not be notified", slog.String("message", assignments[0]), slog.Any("error", err))
	}
}

func (n *Notifier) log() *slog.Logger {
	if n.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return n.Log
}

// maxStatus bounds a status line, in bytes; systemctl shows one line.
const maxStatus = 512

// oneLine makes text safe as a value: a line break in it would begin another assignment, such as MAINPID=, and
// systemd refuses what is not UTF-8.
func oneLine(text string) string {
	if len(text) > maxStatus {
		text = text[:maxStatus]
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
}
