package system

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	return m.Run(program + " app show " + name + " -o json | jq -r .target")
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
		"stat -c %U /proc/" + m.appPID("shop"):                                                       "shop",
		"stat -c '%a %U %G' /run/cutover-apps/shop:a.sock":                                           "660 root cutover",
		"stat -c '%a %U' /etc/cutover/apps /etc/cutover/apps/* | sort -u":                            "644 root\n755 root",
		"stat -c '%a %U' /run/cutover-starts":                                                        "755 root",
		"stat -c '%a %U' /run/cutover-starts/shop:a":                                                 "700 shop",
		"stat -c %U /run/cutover-starts/shop:a/starts":                                               "shop", // what runs before the program runs as its user
		"tr '\\0' '\\n' </proc/" + m.appPID("shop") + "/environ | grep -c RUNTIME_DIRECTORY || true": "0",
		"awk '/^NoNewPrivs:/ {print $2}' /proc/" + m.appPID("shop") + "/status":                      "1",
		"systemctl is-enabled 'cutover-app@shop:a.socket'":                                           "enabled",
		program + " app ls -o json | jq -r '.[] | .name + \" \" + .state'":                           "shop running",
	} {
		if got := m.Run(line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	if got, err := m.Try("runuser -u nobody -- curl -sS --max-time 5 --unix-socket /run/cutover-apps/shop:a.sock http://shop.test/"); err == nil {
		t.Errorf("anybody may connect: %s", got)
	}
	m.Run(program + " app rm shop")
	if got := m.Run("ls -A /etc/cutover/apps /run/cutover-apps /run/cutover-starts /opt/cutover/apps; ls /etc/systemd/system | grep app@ | grep -v '@[.]'; systemctl list-units --all --plain --no-legend 'cutover-app@*'"); strings.Contains(got, "shop") {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestAManagedProgramServesThoughRootMakesItsFilesForItselfAlone(t *testing.T) {
	m := fresh(t)
	m.Run("umask 077; " + m.script("install.sh") + m.folder + "/" + m.release)
	m.connect()
	m.Run("rmdir /etc/cutover/apps /opt/cutover/apps") // an installation before there were programs has none
	m.Run("umask 077; useradd --system shop && " + program + " app add shop --user shop --exec " + tools + "/service --env E2E_NAME=shop --env E2E_APP=http")
	m.Run(program + " upstreams set v1 app:shop")
	m.Eventually(20*time.Second, "answer", func() bool { return strings.HasPrefix(m.get("http://shop.test/"), "shop:") })
	m.Run("umask 077; " + program + " app deploy shop " + m.executable("shop1", ""))
	m.expectProgram("shop1")
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
		"--exec /tmp/shop --user shop":                                   "a /tmp and a /var/tmp of its own",
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

func TestTheStatusSaysWhyAProgramIsNotFoundAndTheOneBeforeServes(t *testing.T) {
	m := withApp(t, "http", "")
	expect := func(words ...string) {
		t.Helper()
		text := ""
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(text)
			}
		})
		m.Eventually(time.Minute, strings.Join(words, " … "), func() bool {
			text, _ = m.Try(program + " status")
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "found by") && containsAll(line, words) {
					return true
				}
			}
			return false
		})
	}
	expect("app:shop: 1 target, looked up at")
	m.Run("chmod go+w /etc/cutover/apps/shop.current")
	expect("app:shop: PROBLEM since", "could have been written by others than root", "chmod go-w /etc/cutover/apps/shop.current", "1 target found before")
	if got := m.get("http://shop.test/"); !strings.HasPrefix(got, "shop:") {
		t.Errorf("got %q", got)
	}
	m.Run("chmod go-w /etc/cutover/apps/shop.current")
	expect("app:shop: 1 target, looked up at")
	m.Run(program + " upstreams set v2 app:nosuch")
	expect("app:nosuch: PROBLEM since", "there is no program nosuch", "cutover app add --help", "0 targets found before")
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
}

func TestAProgramThatDiesAgainAndAgainKeepsItsSocketAndServesOnceItCan(t *testing.T) {
	m := withApp(t, "http", "")
	m.Run("touch /tmp/broken")
	m.Run("printf '[Service]\\nPrivateTmp=no\\nExecStart=\\nExecStart=/bin/sh -c \"test ! -e /tmp/broken && exec " + tools +
		"/service\"\\n' >/etc/systemd/system/cutover-app@shop:a.service.d/zz.conf; systemctl daemon-reload; systemctl kill -s KILL cutover-app@shop:a.service")
	waiting := make(chan string)
	go func() {
		got, err := m.Try("curl -sS --max-time 60 http://shop.test/")
		waiting <- fmt.Sprint(got, err)
	}()
	m.Eventually(60*time.Second, "four restarts", func() bool {
		n, _ := strconv.Atoi(m.Run("systemctl show -P NRestarts cutover-app@shop:a.service")) // systemd prints a number
		return n > 3
	})
	if got := m.Run("systemctl is-active cutover-app@shop:a.socket"); got != "active" {
		t.Errorf("the socket is %s", got)
	}
	if got, _ := strconv.Atoi(m.Run("cut -d' ' -f1 /run/cutover-starts/shop:a/starts")); got < 3 { // 0 if it is no number
		t.Errorf("%d early deaths were counted, after which it is started the more slowly", got)
	}
	m.Run("rm /tmp/broken")
	if got := <-waiting; !strings.HasPrefix(got, "shop:") {
		t.Errorf("the request that waited got %q", got)
	}
}

func TestRequestsForAProgramThatNeverStartsAreBoundedInNumberAndTime(t *testing.T) {
	m := withApp(t, "http", "--backlog 10")
	m.Run(program + " upstreams set v1 --response-timeout 4 --connect-timeout 1")
	m.Run("systemctl kill -s STOP cutover-app@shop:a.service")
	r := m.burst(40)
	if r.Failures != 40 || r.Slowest > 30*time.Second {
		t.Errorf("%d of 40 got an answer, the last after %v", 40-r.Failures, r.Slowest)
	}
	for _, failed := range r.Failed {
		if !strings.Contains(failed, "answer 50") {
			t.Error(failed)
		}
	}
	m.Run("systemctl kill -s CONT cutover-app@shop:a.service")
	m.Eventually(20*time.Second, "answer", func() bool { return strings.HasPrefix(m.get("http://shop.test/"), "shop:") })
}
