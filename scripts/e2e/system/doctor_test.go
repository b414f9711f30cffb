package system

import (
	"slices"
	"strings"
	"testing"
)

// finding returns the line of a check, such as "ok  state  …".
func (m *machine) finding(check string) string {
	m.t.Helper()
	said, _ := m.Try("/opt/cutover/cutover doctor") // that something is wrong shows in the lines
	for line := range strings.Lines(said) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.Contains(line, "  "+check+"  ") {
			return strings.TrimSpace(line)
		}
	}
	m.t.Errorf("the doctor says nothing of %s:\n%s", check, said)
	return ""
}

func TestTheDoctorFindsNothingWrongOnAFreshMachine(t *testing.T) {
	m := install(t)
	said, err := m.Try("/opt/cutover/cutover doctor")
	if err != nil || strings.Contains(said, "not checked") {
		t.Errorf("%v\n%s", err, said)
	}
	for line := range strings.Lines(said) {
		// Those are of the machine that the test runs on.
		outside := slices.ContainsFunc([]string{"clock", "sqlite3", "certificates", "file limit", "memory limit"}, func(what string) bool { return strings.Contains(line, what) })
		if strings.HasPrefix(line, "warn") && !outside {
			t.Error(line)
		}
	}
	m.Run("/opt/cutover/cutover doctor -o json | jq -e 'length > 10 and all(.[]; .check and .result and .found)'")
}

func TestTheDoctorFindsWhatIsSpoiled(t *testing.T) {
	m := install(t)
	for _, spoil := range []struct{ check, result, how, mend string }{
		{"state", "fail", "chmod 644 /var/lib/cutover/rules.db", "chmod 600 /var/lib/cutover/rules.db"},
		{"units", "fail", "mv /etc/systemd/system/cutover-hold.service /root", "mv /root/cutover-hold.service /etc/systemd/system/"},
		{"hold unit", "fail", "systemctl stop cutover-hold.service", "systemctl start cutover-hold.service"},
		{"socket http", "fail", dropIn("cutover-http.socket", "Socket", "FileDescriptorName=web"), remove("cutover-http.socket")},
		{"service", "fail", dropIn("cutover.service", "Service", "NonBlocking=no"), remove("cutover.service")},
		{"service", "fail", dropIn("cutover.service", "Unit", "StartLimitIntervalSec=10"), remove("cutover.service")},
		{"file limit", "fail", dropIn("cutover.service", "Service", "LimitNOFILE=1024") + " && systemctl restart cutover", remove("cutover.service") + " && systemctl restart cutover"},
		{"release", "warn", "cp /opt/cutover/cutover /opt/cutover/other && ln -sfn /opt/cutover/other /opt/cutover/cutover", "ln -sfn /opt/cutover/releases/" + m.release + " /opt/cutover/cutover"},
		{"admin socket", "fail", "systemctl stop cutover", "systemctl start cutover"},
	} {
		m.Run(spoil.how)
		if got := m.finding(spoil.check); !strings.HasPrefix(got, spoil.result) {
			t.Errorf("after %s: %s", spoil.how, got)
		}
		m.Run(spoil.mend)
		if got := m.finding(spoil.check); strings.HasPrefix(got, spoil.result) {
			t.Errorf("mended by %s: %s", spoil.mend, got)
		}
	}
}

// dropIn changes a unit, as systemctl edit does.
func dropIn(unit, section, line string) string {
	folder := "/etc/systemd/system/" + unit + ".d"
	return "mkdir -p " + folder + " && printf '[" + section + "]\\n" + line + "\\n' >" + folder + "/spoiled.conf && systemctl daemon-reload"
}

func remove(unit string) string {
	return "rm /etc/systemd/system/" + unit + ".d/spoiled.conf && systemctl daemon-reload"
}

func TestTheDoctorNeverCallsGoodWhatItCannotSee(t *testing.T) {
	m := install(t)
	said, _ := m.Try("runuser -u nobody -- /opt/cutover/cutover doctor")
	for _, check := range []string{"state", "admin socket", "file limit", "ports 80 and 443", "rules"} {
		seen := false
		for line := range strings.Lines(said) {
			seen = seen || (strings.HasPrefix(line, "not checked") && strings.Contains(line, "  "+check+"  "))
		}
		if !seen {
			t.Errorf("%s is not 'not checked':\n%s", check, said)
		}
	}
	if !strings.Contains(said, "run it with sudo") {
		t.Errorf("no next step:\n%s", said)
	}
}

func TestTheDoctorReadsTheRulesWhereNoDaemonRuns(t *testing.T) {
	m := install(t)
	m.Run("systemctl stop cutover")
	if got := m.finding("rules"); !strings.HasPrefix(got, "ok") || !strings.Contains(got, "no daemon runs") {
		t.Error(got)
	}
	if got := m.Run("find /var/lib/cutover ! -user cutover"); got != "" {
		t.Errorf("files of root: %s", got)
	}
}
