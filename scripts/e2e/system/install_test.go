package system

import (
	"strings"
	"testing"
)

func TestADryRunSaysEveryStepAndDoesNone(t *testing.T) {
	m := fresh(t)
	before := m.traces()
	said := m.Run(m.script("install.sh") + "--dry-run " + m.folder + "/" + m.release)
	for _, want := range []string{"/opt/cutover/releases", "/etc/systemd/system", "user cutover", "ports 80 and 443", "nothing was done"} {
		if !strings.Contains(said, want) {
			t.Errorf("it says nothing of %s:\n%s", want, said)
		}
	}
	if after := m.traces(); after != before {
		t.Errorf("before: %s\nafter: %s", before, after)
	}
}

// traces is what an installation would leave.
func (m *machine) traces() string {
	m.t.Helper()
	return m.Run("ls -R /opt/cutover /etc/cutover /var/lib/cutover /etc/systemd/system 2>&1; id cutover 2>&1; ss -Hltn; true")
}

func TestInstallingAgainChangesNothing(t *testing.T) {
	m := install(t)
	state := "systemctl show -P MainPID -P ActiveEnterTimestampMonotonic cutover.service cutover-http.socket cutover-https.socket cutover-hold.service; " +
		"find /etc/systemd/system /etc/cutover /opt/cutover /usr/local/bin/cutover -name '*cutover*' -printf '%p %T@ %l\\n'"
	before := m.Run(state)
	said := m.Run(m.script("install.sh") + m.folder + "/" + m.release)
	if !strings.Contains(said, "left alone") {
		t.Errorf("it says:\n%s", said)
	}
	if after := m.Run(state); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	m.expectServing("v1")
}

func TestAPortThatSomebodyElseHoldsStopsTheInstallationBeforeItBegins(t *testing.T) {
	m := fresh(t)
	m.service("nginx", "0.0.0.0:80")
	before := m.Run("ls /etc/systemd/system; id cutover 2>&1; true")
	said, err := m.Try(m.script("install.sh") + m.folder + "/" + m.release)
	if err == nil || !strings.Contains(said, "port 80 is held by service (process ") {
		t.Errorf("%v\n%s", err, said)
	}
	if after := m.Run("ls /etc/systemd/system; id cutover 2>&1; true"); after != before {
		t.Errorf("before: %s\nafter: %s", before, after)
	}
}

func TestAnInstallationThatCannotServeClosesThePortsAndGoesOnOnceMended(t *testing.T) {
	m := fresh(t)
	m.configure("log_levle = \"info\"\n")
	said, err := m.Try(m.script("install.sh") + m.folder + "/" + m.release)
	if err == nil || !strings.Contains(said, "log_levle") {
		t.Errorf("%v\n%s", err, said)
	}
	if got := m.Run("ss -Hltn 'sport = :80 or sport = :443'"); got != "" {
		t.Errorf("nobody serves, and the ports are open: %s", got)
	}
	m.configure("log_level = \"info\"\n")
	m.Run(m.script("install.sh") + m.folder + "/" + m.release)
	m.connect()
	m.expectServing("v1")
}
