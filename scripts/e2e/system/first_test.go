// Package system tests the whole on a real systemd: installed by the scripts, on ports 80 and 443, as its own user.
package system

import (
	"strings"
	"testing"
	"time"
)

func TestAFreshMachineIsInstalledAndServes(t *testing.T) {
	m := install(t)
	if got := m.Run("curl -sS --max-time 5 http://shop.test/hello"); !strings.HasPrefix(got, "v1: GET shop.test/hello") {
		t.Errorf("the first request got %q", got)
	}
	if got := m.Run("cutover status"); !strings.Contains(got, "ready") {
		t.Errorf("cutover status says %q", got)
	}
	if got := m.Run("systemctl show -P StatusText cutover.service"); !strings.Contains(got, "rules") {
		t.Errorf("systemctl shows the status %q", got)
	}
}

func TestItRunsAsItsOwnUserWithoutAnyPrivilege(t *testing.T) {
	m := install(t)
	pid := m.Run("systemctl show -P MainPID cutover.service")
	for line, want := range map[string]string{
		"stat -c %U /proc/" + pid:                              "cutover",
		"awk '/^CapEff/{print $2}' /proc/" + pid + "/status":   "0000000000000000",
		"awk '/^CapBnd/{print $2}' /proc/" + pid + "/status":   "0000000000000000",
		"awk '/^Seccomp:/{print $2}' /proc/" + pid + "/status": "2",
		"stat -c '%a %U' /var/lib/cutover":                     "700 cutover",
		"stat -c '%a %U' /var/lib/cutover/rules.db":            "600 cutover",
		"stat -c '%a %U' /run/cutover/admin.sock":              "600 cutover",
	} {
		if got := m.Run(line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestAnEditWithSqlite3IsObeyed(t *testing.T) {
	m := install(t)
	m.Run(`runuser -u cutover -- sqlite3 /var/lib/cutover/rules.db ".timeout 5000" "INSERT INTO rules(host,percent) VALUES('shop.test',100)"`)
	m.Eventually(5*time.Second, "v2 after the edit", func() bool {
		return strings.HasPrefix(m.Run("curl -sS --max-time 5 http://shop.test/"), "v2:")
	})
	if got, err := m.Try(`runuser -u cutover -- sqlite3 /var/lib/cutover/rules.db "UPDATE rules SET percent='half'"`); err == nil || !strings.Contains(got, "percent must be a number from 0 to 100") {
		t.Errorf("nonsense was answered with %q", got)
	}
}

func TestRootMayUseTheCommandLineWithoutHarm(t *testing.T) {
	m := install(t)
	m.Run("/opt/cutover/cutover rules set other.test --percent 100")
	if got := m.Run("curl -sS --max-time 5 http://other.test/"); !strings.HasPrefix(got, "v2:") {
		t.Errorf("got %q", got)
	}
	m.Run("systemctl stop cutover.service && /opt/cutover/cutover rules set other.test --percent 0 && systemctl start cutover.service")
	if got := m.Run("find /var/lib/cutover ! -user cutover"); got != "" {
		t.Errorf("root left files of its own: %s", got)
	}
	if got := m.Run("curl -sS --max-time 5 http://other.test/"); !strings.HasPrefix(got, "v1:") {
		t.Errorf("got %q", got)
	}
}

func TestHTTPSIsThereOnDemand(t *testing.T) {
	m := install(t)
	ca := m.startPebble()
	m.Run("mkdir -p /etc/cutover && printf '[acme]\\ndirectory = \"" + ca + "\"\\nroot = \"/etc/cutover/pebble.pem\"\\n' >/etc/cutover/cutover.toml")
	m.Run("systemctl restart cutover.service")
	listeners := m.Run("ss -Hltnp | grep -c cutover || true")
	m.Run("/opt/cutover/cutover rules set shop.test --percent 100")
	if got := m.Run("curl -sS --insecure --max-time 60 https://shop.test/"); !strings.HasPrefix(got, "v2: GET shop.test/ over https") {
		t.Errorf("got %q", got)
	}
	if got, err := m.Try("curl -sS --insecure --max-time 10 https://stranger.test/"); err == nil {
		t.Errorf("a host that no rule knows got %q", got)
	}
	if after := m.Run("ss -Hltnp | grep -c cutover || true"); after != listeners {
		t.Errorf("%s listening sockets before, %s after the issuance", listeners, after)
	}
}

// The commands are those of docs/operations.md.
func TestTheAdminAPIOnTCPIsThereWhenAskedForAndWantsAKey(t *testing.T) {
	m := install(t)
	if got := m.Run("ss -Hltn | grep -c :9180 || true"); got != "0" {
		t.Errorf("port 9180 is open before anybody asked for it")
	}
	key := m.Run(`key=$(openssl rand -hex 32)
echo "grafana:$(printf %s "$key" | sha256sum | cut -d' ' -f1)" | tee -a /etc/cutover/admin.keys >/dev/null
chgrp cutover /etc/cutover/admin.keys && chmod 0640 /etc/cutover/admin.keys
cutover units install --admin >/dev/null && systemctl daemon-reload && systemctl restart cutover
echo "$key"`)
	if got := m.Run(`curl -sS --max-time 5 -H "Authorization: Bearer ` + key + `" http://127.0.0.1:9180/metrics`); !strings.Contains(got, "cutover_requests_total") && !strings.Contains(got, "cutover_rules") {
		t.Errorf("with the key: %.200s", got)
	}
	for line, want := range map[string]string{
		"curl -s -o /dev/null -w '%{http_code}' --max-time 5 http://127.0.0.1:9180/metrics":                                "401",
		"curl -s -o /dev/null -w '%{http_code}' --max-time 5 -H 'Authorization: Bearer x' http://127.0.0.1:9180/v1/status": "401",
		"curl -s -o /dev/null -w '%{http_code}' --max-time 5 http://127.0.0.1:9180/healthz":                                "200",
	} {
		if got := m.Run(line); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

func TestASecondProcessOnTheSameStateIsRefused(t *testing.T) {
	m := install(t)
	got, err := m.Try("runuser -u cutover -- env STATE_DIRECTORY=/var/lib/cutover RUNTIME_DIRECTORY=/tmp systemd-run --quiet --wait --pipe --uid=cutover true; " +
		"cd /tmp && timeout 20 systemd-socket-activate -l 127.0.0.1:8080 --fdname=http setpriv --reuid=cutover --regid=cutover --clear-groups /opt/cutover/cutover serve 2>&1 & " +
		"sleep 1; curl -s --max-time 5 http://127.0.0.1:8080/; wait %1")
	if !strings.Contains(got, "another process holds the rules") {
		t.Errorf("the second process said %q (%v)", got, err)
	}
}

func TestTheUnitsPassVerificationAndTheSandboxIsTight(t *testing.T) {
	m := install(t)
	m.Run("systemd-analyze verify /etc/systemd/system/cutover.service /etc/systemd/system/cutover-hold.service /etc/systemd/system/cutover-http.socket /etc/systemd/system/cutover-https.socket")
	m.Run("systemd-analyze security --offline=true --threshold=15 /etc/systemd/system/cutover.service")
}

func TestEverythingIsThereAgainAfterAReboot(t *testing.T) {
	m := install(t)
	m.Run("/opt/cutover/cutover rules set shop.test --percent 100")
	m.Run("systemctl stop cutover.service cutover-hold.service cutover-http.socket cutover-https.socket; rm -rf /run/cutover; systemctl start sockets.target multi-user.target --no-block; systemctl start cutover.service")
	if got := m.Run("curl -sS --max-time 5 http://shop.test/"); !strings.HasPrefix(got, "v2:") {
		t.Errorf("got %q", got)
	}
}
