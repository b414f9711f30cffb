// Package system tests the whole on a real systemd: installed by the scripts, on ports 80 and 443, as its own user.
package system

import (
	"strings"
	"testing"
	"time"
)

func TestAFreshMachineIsInstalledAndServes(t *testing.T) {
	m := install(t)
	if got := m.get("http://shop.test/hello"); !strings.HasPrefix(got, "v1: GET shop.test/hello") {
		t.Errorf("the first request got %q", got)
	}
	if got := m.get("--globoff http://[::1]/"); !strings.HasPrefix(got, "v1:") {
		t.Errorf("over IPv6: %q", got)
	}
	if got := m.Run("systemctl show -P StatusText cutover.service"); !strings.Contains(got, "rules") {
		t.Errorf("systemctl shows the status %q", got)
	}
}

func TestItRunsAsItsOwnUserWithoutAnyPrivilege(t *testing.T) {
	m := install(t)
	status := "/proc/" + m.mainPID() + "/status"
	for line, want := range map[string]string{
		"stat -c %U /proc/" + m.mainPID():                        "cutover",
		"awk '/^Cap/ && $2 !~ /^0+$/' " + status:                 "",
		"awk '/^Groups:/ {$1 = \"\"; print $0}' " + status:       "$(id -g cutover)",
		"awk '/^NoNewPrivs:/ {print $2}' " + status:              "1",
		"awk '/^Seccomp:/ {print $2}' " + status:                 "2",
		"stat -c '%a %U' /var/lib/cutover":                       "700 cutover",
		"stat -c '%a %U' /var/lib/cutover/rules.db":              "600 cutover",
		"stat -c '%a %U' /run/cutover/admin.sock":                "600 cutover",
		"find /var/lib/cutover -type f -perm /077 -printf '%p '": "",
	} {
		if got, want := strings.TrimSpace(m.Run(line)), m.Run("echo "+want); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestAnEditWithSqlite3IsObeyed(t *testing.T) {
	m := install(t)
	m.expectServing("v1")
	for _, step := range []struct{ edit, version string }{
		{"INSERT INTO rules(host, percent) VALUES('shop.test', 100)", "v2"},
		{"UPDATE rules SET percent = 0 WHERE host = 'shop.test'", "v1"},
		{"UPDATE rules SET percent = 100 WHERE host = 'shop.test'", "v2"},
	} {
		m.Run(`runuser -u cutover -- sqlite3 -cmd '.timeout 5000' /var/lib/cutover/rules.db "` + step.edit + `"`)
		m.Eventually(time.Second, "obedience to "+step.edit, func() bool { return strings.HasPrefix(m.get("http://shop.test/"), step.version+":") })
	}
	got, err := m.Try(`runuser -u cutover -- sqlite3 /var/lib/cutover/rules.db "UPDATE rules SET percent='half'"`)
	if err == nil || !strings.Contains(got, "percent must be a number from 0 to 100") {
		t.Errorf("nonsense was answered with %q", got)
	}
}

func TestRootMayUseTheCommandLineWithoutHarm(t *testing.T) {
	m := install(t)
	m.Run("/opt/cutover/cutover rules set shop.test --percent 100")
	m.expectServing("v2")
	m.Run("systemctl stop cutover.service && /opt/cutover/cutover rules set shop.test --percent 0 && systemctl start cutover.service")
	if got := m.Run("find /var/lib/cutover ! -user cutover"); got != "" {
		t.Errorf("root left files of its own: %s", got)
	}
	m.expectServing("v1")
}

func TestHTTPSIsThereOnDemand(t *testing.T) {
	m := install(t)
	m.configure("[acme]\ndirectory = \"" + m.startPebble() + "\"\nroot = \"/etc/pebble-root.pem\"\n")
	m.Run("systemctl restart cutover.service")
	listeners := m.listeners()
	m.Run("/opt/cutover/cutover rules set shop.test --percent 100")
	if got := m.get("--cacert /etc/pebble-issuer.pem --max-time 60 https://shop.test/"); !strings.HasPrefix(got, "v2: GET shop.test/ over https") {
		t.Errorf("got %q", got)
	}
	if got, err := m.Try("curl -sS --insecure --max-time 10 https://stranger.test/"); err == nil {
		t.Errorf("a host that no rule knows got %q", got)
	}
	if after := m.listeners(); after != listeners {
		t.Errorf("listening before:\n%s\nafter the issuance:\n%s", listeners, after)
	}
	m.Run("systemctl restart cutover.service")
	if got := m.get("--cacert /etc/pebble-issuer.pem https://shop.test/"); !strings.HasPrefix(got, "v2:") {
		t.Errorf("after a restart: %q", got)
	}
}

// listeners lists what the machine listens on, and who, sorted.
func (m *machine) listeners() string {
	m.t.Helper()
	text := m.Run(`ss -Hltnp | awk '{print $4, $6}' | sed 's/pid=[0-9]*,fd=[0-9]*//g' | sort`)
	if !strings.Contains(text, ":80 ") || !strings.Contains(text, ":443 ") {
		m.t.Fatalf("the sockets are not to be seen:\n%s", text)
	}
	return text
}

func TestASecondProcessOnTheSameStateIsRefused(t *testing.T) {
	m := install(t)
	pid := m.mainPID()
	got, err := m.Try("cd /tmp; timeout 20 systemd-socket-activate --listen=127.0.0.1:8080 --fdname=http " +
		"--setenv=STATE_DIRECTORY=/var/lib/cutover --setenv=RUNTIME_DIRECTORY=/run/cutover " +
		"setpriv --reuid=cutover --regid=cutover --clear-groups /opt/cutover/cutover serve & " +
		"until curl -s --max-time 5 http://127.0.0.1:8080/; [ $? != 7 ]; do sleep 0.1; done; wait %1")
	if err == nil || !strings.Contains(got, "another process holds the rules") {
		t.Errorf("the second process said %q (%v)", got, err)
	}
	m.expectServing("v1")
	if m.mainPID() != pid {
		t.Error("the first process was replaced")
	}
}

func TestTheUnitsPassVerificationAndTheSandboxIsTight(t *testing.T) {
	m := install(t)
	if got := m.Run("cd /etc/systemd/system && systemd-analyze verify cutover*.service cutover*.socket 2>&1"); got != "" {
		t.Errorf("systemd-analyze verify says:\n%s", got)
	}
	m.Run("systemd-analyze security --offline=true --threshold=15 /etc/systemd/system/cutover.service")
}

func TestEverythingIsThereAgainAfterAReboot(t *testing.T) {
	m := install(t)
	m.Run("/opt/cutover/cutover rules set shop.test --percent 100")
	m.expectServing("v2")
	m.Reboot()
	m.service("v1", "127.0.0.1:9001")
	m.service("v2", "127.0.0.1:9002")
	m.expectSocketsActive()
	m.expectServing("v2")
	m.Run("systemctl stop cutover.service cutover-hold.service cutover-http.socket cutover-https.socket")
	if got, err := m.Try("curl -sS --max-time 5 http://shop.test/"); err == nil {
		t.Errorf("stopped, it still answers %q", got)
	}
	m.Run("systemctl start cutover-http.socket cutover-https.socket cutover-hold.service cutover.service")
	m.expectServing("v2")
}
