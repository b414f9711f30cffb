package system

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// askHook says a request to the socket of the DNS hook, as the daemon does, and prints what it answers.
func askHook(request string) int {
	c, err := net.Dial("unix", "/run/cutover-dns.sock")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = c.Close() }()
	fmt.Fprintln(c, request)
	if _, err := io.Copy(os.Stdout, c); err != nil {
		return 1
	}
	return 0
}

// hookAnswer is what the socket answers.
type hookAnswer struct{ Said, Error string }

// asksHook asks as a user for a run of the DNS hook.
func (m *machine) asksHook(user, action string) (answer hookAnswer) {
	m.t.Helper()
	said, err := m.Try(`runuser -u ` + user + ` -- env 'E2E_HOOK={"action": "` + action + `", "name": "_acme-challenge.shop.test.", "value": "v"}' ` + tools + "/service")
	if err == nil {
		err = json.Unmarshal([]byte(said), &answer)
	}
	if err != nil {
		answer.Error = fmt.Sprint(said, err)
	}
	return answer
}

// withHook boots a box with a DNS hook. What it writes to its standard error is the answer.
func withHook(t *testing.T, script string) *machine {
	t.Helper()
	m := fresh(t)
	m.configure("[acme]\nissuer = \"off\"\n[acme.dns]\ncommand = \"/etc/cutover/dns-hook\"\n")
	path := filepath.Join(m.folder, "dns-hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec >&2\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	m.Run("cp " + path + " /etc/cutover/dns-hook && chown root /etc/cutover/dns-hook && chmod 755 /etc/cutover/dns-hook")
	m.installed()
	return m
}

func TestTheDNSHookRunsAsAUserOfItsOwnAndSeesNothingOfCutovers(t *testing.T) {
	m := withHook(t, `echo "user $(id -un), group $(id -gn)"
for path in /var/lib/cutover /run/cutover /run/cutover-apps /etc/cutover/certificates /root; do
  ! ls -A $path >/dev/null || [ -z "$(ls -A $path)" ] || echo "saw $path"
done
echo "token $(cat /etc/cutover/token)"
! touch /etc/cutover/mine /var/lib/mine /run/mine || echo "wrote"
echo $1 >>/var/lib/cutover-dns/kept && echo "kept $(wc -l </var/lib/cutover-dns/kept)"
grep NoNewPrivs /proc/self/status
echo "variables $(env | cut -d= -f1 | grep -vx 'PWD\|_\|SHLVL\|OLDPWD' | sort | tr '\n' ' ')"
[ "$1" = present ]
`)
	m.Run("mkdir -p /run/cutover-apps && touch /run/cutover-apps/x && echo secret >/etc/cutover/token && chgrp cutover /etc/cutover/token && chmod 640 /etc/cutover/token")
	answer := m.asksHook("cutover", "present")
	if answer.Error != "" {
		t.Errorf("present: %s", answer.Error)
	}
	for _, want := range []string{"user cutover-dns, group cutover-dns\n", "token secret\n", "kept 1\n", "NoNewPrivs:\t1\n", "variables LANG PATH \n"} {
		if !strings.Contains(answer.Said, want) {
			t.Errorf("%q is missing in:\n%s", want, answer.Said)
		}
	}
	if strings.Contains(answer.Said, "saw") || strings.Contains(answer.Said, "wrote") {
		t.Errorf("it has said:\n%s", answer.Said)
	}
	if answer := m.asksHook("cutover", "cleanup"); !strings.Contains(answer.Error, "exit status 1") || !strings.Contains(answer.Said, "kept 2\n") {
		t.Errorf("cleanup, which fails here: %+v", answer)
	}
	if answer := m.asksHook("nobody", "present"); !strings.Contains(answer.Error, "permission denied") {
		t.Errorf("anybody may ask: %+v", answer)
	}
	m.Eventually(time.Minute, "end of all runs", func() bool { return m.Run("systemctl list-units --all --plain --no-legend 'cutover-dns@*'") == "" })
}

func TestAfterAnUpgradeWithoutItsUnitsItIsSaidHowTheDNSHookIsToBeRun(t *testing.T) {
	m := withHook(t, "true")
	m.Run("systemctl stop cutover-dns.socket && rm /etc/systemd/system/cutover-dns* && systemctl daemon-reload && systemctl restart cutover.service")
	const run = "sudo cutover units install && sudo systemctl daemon-reload && sudo systemctl start cutover-dns.socket"
	m.Eventually(time.Minute, "line of the log", func() bool {
		said, err := m.Try("journalctl -o cat --no-pager -u cutover.service | jq -Rr 'fromjson? | select(.setting == \"acme.dns.command\") | .error'")
		return err == nil && strings.Contains(said, run)
	})
	for _, check := range []string{"units", "DNS hook"} {
		if got := m.finding(check); !strings.HasPrefix(got, "fail") {
			t.Error(got)
		}
	}
	m.Run(strings.ReplaceAll(strings.ReplaceAll(run, "sudo cutover", program), "sudo ", ""))
	if answer := m.asksHook("cutover", "present"); answer.Error != "" {
		t.Errorf("after these commands: %+v", answer)
	}
	for _, check := range []string{"units", "DNS hook"} {
		if got := m.finding(check); !strings.HasPrefix(got, "ok") {
			t.Error(got)
		}
	}
}
