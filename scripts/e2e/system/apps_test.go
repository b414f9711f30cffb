package system

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const program = "/opt/cutover/cutover"

// withApp boots a box in which a managed program is v1; flags are those of 'cutover app add'.
func withApp(t *testing.T, kind, flags string) *machine {
	t.Helper()
	m := install(t)
	m.Run("useradd --system shop")
	m.Run(program + " app add shop --user shop --exec " + tools + "/service --env E2E_NAME=shop --env E2E_APP=" + kind + " " + flags)
	m.Run(program + " upstreams set v1 " + m.appTarget("shop"))
	m.Eventually(10*time.Second, "the program's answer", func() bool { return strings.HasPrefix(m.get("http://shop.test/"), "shop:") })
	return m
}

// appTarget is what 'cutover app show' says.
func (m *machine) appTarget(name string) string {
	return "unix:" + m.Run(program+" app show "+name+" -o json | jq -r .socket")
}

// appPID is the process of a program.
func (m *machine) appPID(name string) string {
	m.t.Helper()
	return m.Run(program + " app show " + name + " -o json | jq .pid")
}

// starts counts how often a slot's program was started.
func (m *machine) starts(unit string) int {
	m.t.Helper()
	var n int
	_, _ = fmt.Sscan(m.Run("journalctl -o cat --no-pager -u '"+unit+"' | grep -c 'the program has started' || true"), &n) // grep prints a number
	return n
}

func TestAManagedProgramServesAsItsOwnUserOnASocketForTheProxyAlone(t *testing.T) {
	m := withApp(t, "http", "--health /up")
	if got := m.get("http://shop.test/hello?x=1"); !strings.HasPrefix(got, "shop: GET shop.test/hello?x=1 by") {
		t.Errorf("got %q", got)
	}
	for line, want := range map[string]string{
		"stat -c %U /proc/" + m.appPID("shop"):                                  "shop",
		"stat -c '%a %U %G' /run/cutover-apps/shop:a.sock":                      "660 root cutover",
		"stat -c '%a %U' /etc/cutover/apps /etc/cutover/apps/* | sort -u":       "644 root\n755 root",
		"awk '/^NoNewPrivs:/ {print $2}' /proc/" + m.appPID("shop") + "/status": "1",
		"systemctl is-enabled 'cutover-app@shop:a.socket'":                      "enabled",
		program + " app ls -o json | jq -r '.[] | .name + \" \" + .state'":      "shop running",
	} {
		if got := m.Run(line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	if got, err := m.Try("runuser -u nobody -- curl -sS --max-time 5 --unix-socket /run/cutover-apps/shop:a.sock http://shop.test/"); err == nil {
		t.Errorf("anybody may connect: %s", got)
	}
	m.Run(program + " app rm shop")
	if got := m.Run("ls -A /etc/cutover/apps /run/cutover-apps /opt/cutover/apps; ls /etc/systemd/system | grep app@ | grep -v '@[.]'; systemctl list-units --all --plain --no-legend 'cutover-app@*'"); strings.Contains(got, "shop") {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestAManagedProgramIsNotTouchedWhenCutoverRestarts(t *testing.T) {
	m := withApp(t, "http", "")
	before := m.appPID("shop")
	m.Run("systemctl restart cutover.service")
	m.Eventually(10*time.Second, "answer", func() bool { return strings.HasPrefix(m.get("http://shop.test/"), "shop:") })
	m.Run("systemctl stop cutover.service && systemctl start cutover.service")
	if after := m.appPID("shop"); after != before {
		t.Errorf("process %s became %s", before, after)
	}
	m.Reboot()
	m.Eventually(30*time.Second, "answer after a reboot", func() bool {
		got, _ := m.Try("curl -s --max-time 20 http://shop.test/")
		return strings.HasPrefix(got, "shop:")
	})
}

func TestAProgramIsToldExactlyWhatRootSays(t *testing.T) {
	m := withApp(t, "http", "")
	want := []any{[]any{`a b`, `100% of %h`, `$HOME ${HOME} $$`, `"q" 'r' \n \\`, `;`, `ä`, ``, `-x`}, `say "50%" of $HOME \n 'now'`}
	file := struct{ args, told string }{}
	for at, into := range map[int]*string{0: &file.args, 1: &file.told} {
		text, err := json.Marshal(want[at])
		if err != nil {
			t.Fatal(err)
		}
		*into = string(text)
	}
	toml := "exec = " + strings.Replace(file.args, "[", `["`+tools+`/service", `, 1) + "\nuser = 'shop'\nprotocol = 'http'\n[env]\nE2E_APP = 'http'\nE2E_TOLD = " + file.told + "\n"
	if err := os.WriteFile(filepath.Join(m.folder, "shop.toml"), []byte(toml), 0o644); err != nil {
		t.Fatal(err)
	}
	m.Run("cp " + m.folder + "/shop.toml /etc/cutover/apps/shop.toml && " + program + " app restart shop")
	expected, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.get("http://shop.test/told"); got != string(expected) {
		t.Errorf("it was told %s\nwant %s", got, expected)
	}
}

func TestAProgramThatDoesNotStartLeavesNothing(t *testing.T) {
	m := install(t)
	m.Run("useradd --system shop")
	for flags, want := range map[string]string{
		"--exec /bin/false --user shop":                                  "it ends again and again",
		"--exec /usr/bin/sleep --user nosuch":                            "unknown user nosuch",
		"--exec /no/such --user shop":                                    "/no/such",
		"--exec /etc/passwd --user shop":                                 "cannot be executed",
		"--exec '/bin/sleep 1000' --user shop --timeout 2s":              "it accepts no connection",
		"--exec '/bin/sleep 1000' --user root":                           "--allow-root",
		"--exec '/bin/sleep 1000' --user shop --health /up --timeout 2s": "GET /up",
	} {
		said, err := m.Try(program + " app add shop " + flags)
		if err == nil || !strings.Contains(said, want) || !strings.Contains(said, "hint: ") {
			t.Errorf("%s: %v\n%s", flags, err, said)
		}
	}
	if got := m.Run("ls -A /etc/cutover/apps 2>/dev/null; systemctl list-units --all --plain --no-legend 'cutover-app@*'; ls /etc/systemd/system | grep app@shop || true"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
}
