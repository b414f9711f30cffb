package box

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBoxesAreApartAndLeaveNothingBehind(t *testing.T) {
	var groups []string
	shared := t.TempDir()
	t.Run("two", func(t *testing.T) {
		one, two := Boot(t, shared), Boot(t)
		groups = []string{one.group, two.group}
		one.Run("echo here >/etc/only-in-one && echo out >" + shared + "/from-one")
		if got, err := two.Try("cat /etc/only-in-one"); err == nil {
			t.Errorf("the other box sees %q", got)
		}
		if _, err := os.Stat("/etc/only-in-one"); err == nil {
			t.Error("the machine sees what a box has written")
		}
		for _, b := range []*Box{one, two} {
			b.Start(nil, "systemd-socket-activate", "--listen=127.0.0.1:80", "true") // the same port in both
			b.Eventually(5*time.Second, "listener", func() bool { return strings.Contains(b.Run("ss -Hltn"), "127.0.0.1:80") })
			if got := b.Run("cat /proc/1/comm"); got != "systemd" {
				t.Errorf("PID 1 is %q", got)
			}
		}
		if one.Run("cat /etc/machine-id") == two.Run("cat /etc/machine-id") {
			t.Error("both boxes are the same machine")
		}
	})
	for _, group := range groups {
		if _, err := os.Stat(group); err == nil {
			t.Errorf("%s is still there", group)
		}
	}
	if text, err := os.ReadFile(filepath.Join(shared, "from-one")); err != nil || string(text) != "out\n" {
		t.Errorf("what was written to a shared folder is %q, %v", text, err)
	}
}

func TestARebootKeepsWhatWasWrittenAndNoProcess(t *testing.T) {
	b := Boot(t)
	b.Run("echo kept >/etc/kept && echo gone >/run/gone && systemd-run --quiet --unit=holder sleep infinity")
	boot := b.Run("cat /proc/1/stat | cut -d' ' -f22")
	b.Reboot()
	if got := b.Run("cat /etc/kept; cat /run/gone 2>/dev/null; systemctl is-active holder || true"); got != "kept\ninactive" {
		t.Errorf("after the reboot: %q", got)
	}
	if again := b.Run("cat /proc/1/stat | cut -d' ' -f22"); again == boot {
		t.Error("PID 1 is the same")
	}
}

func TestNothingOfTheMachinesOwnRunsInABox(t *testing.T) {
	b := Boot(t)
	for line := range strings.Lines(b.Run("systemctl list-units --type=service --state=running --plain --no-legend | awk '{print $1}'")) {
		switch name := strings.TrimSpace(line); name {
		case "dbus.service", "systemd-journald.service", "dbus-broker.service":
		default:
			t.Errorf("%s runs", name)
		}
	}
	if got := b.Run("ss -Hltn"); got != "" {
		t.Errorf("something listens: %s", got)
	}
}
