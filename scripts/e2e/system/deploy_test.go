package system

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// crashing passes its own check and then ends at once: the release that must never cost a request.
const crashing = "#!/bin/sh\ncase \"$*\" in *--check*) exit 0;; esac\necho 'this release crashes' >&2\nexit 1\n"

// refusing does not pass its own check.
const refusing = "#!/bin/sh\necho 'FAIL rules: this release cannot read them' >&2\nexit 1\n"

// underLoad runs work while clients ask without pause, and returns what they saw.
func (m *machine) underLoad(work func()) *report {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	command := m.Command(ctx, "env", "E2E_LOAD=300", filepath.Join(m.folder, "service"))
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.Eventually(20*time.Second, "load that has begun", func() bool { return m.served() > 50 })
	work()
	settled := m.served()
	m.Eventually(20*time.Second, "load that goes on", func() bool { return m.served() > settled+50 })
	if err := input.Close(); err != nil {
		m.t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		m.t.Fatalf("the load generator: %v", err)
	}
	r := &report{}
	if err := json.Unmarshal(output.Bytes(), r); err != nil {
		m.t.Fatalf("%v in %q", err, output.String())
	}
	return r
}

// served counts the requests that the running process has answered.
func (m *machine) served() int {
	output, err := m.Try(`curl -s --unix-socket /run/cutover/admin.sock http://admin/metrics | awk '/^cutover_requests_total/{n+=$2} END{print n+0}'`)
	if err != nil {
		return 0
	}
	var n int
	_, _ = fmt.Sscan(output, &n)
	return n
}

func (r *report) expectNoFailure(t *testing.T) {
	t.Helper()
	total := 0
	for kind, n := range r.Requests {
		total += n
		if n < 10 {
			t.Errorf("only %d requests by %s: that is no load", n, kind)
		}
	}
	t.Logf("%d requests %v, %d failed, slowest %v", total, r.Requests, len(r.Failed), r.Slowest)
	for _, failure := range r.Failed {
		t.Error(failure)
	}
}

// withHTTPS lets the local CA issue for the host of the load.
func (m *machine) withHTTPS() {
	m.t.Helper()
	m.Run("mkdir -p /etc/cutover && printf '[acme]\\nissuer = \"local\"\\n' >/etc/cutover/cutover.toml && /opt/cutover/cutover rules set shop.test && systemctl restart cutover.service")
	m.Run("curl -sS --insecure --max-time 20 https://shop.test/")
}

func (m *machine) current() string { return filepath.Base(m.Run("readlink /opt/cutover/cutover")) }

func (m *machine) expectSocketsActive() {
	m.t.Helper()
	if got := m.Run("systemctl is-active cutover-http.socket cutover-https.socket"); got != "active\nactive" {
		m.t.Errorf("the sockets are %q", got)
	}
}

func TestDeploysUnderLoadLoseNoRequest(t *testing.T) {
	m := install(t)
	m.withHTTPS()
	same := m.releaseBytes()
	r := m.underLoad(func() {
		for i := range 3 {
			release := m.next(same, i+1)
			m.Run("bash " + m.script("deploy.sh") + " " + release)
			if got := m.current(); got != filepath.Base(release) {
				t.Errorf("the symlink leads to %s, not to %s", got, release)
			}
		}
	})
	r.expectNoFailure(t)
}

func TestTenCrashingReleasesInARowAreRolledBackUnderTraffic(t *testing.T) {
	m := install(t)
	m.withHTTPS()
	first := m.current()
	r := m.underLoad(func() {
		for i := range 10 {
			output, err := m.Try("bash " + m.script("deploy.sh") + " " + m.next([]byte(crashing), i+1))
			if err == nil || !strings.Contains(output, "serves again") {
				t.Fatalf("deploying a crashing release: %v\n%s", err, output)
			}
			if got := m.current(); got != first {
				t.Fatalf("the symlink leads to %s", got)
			}
			m.expectSocketsActive()
		}
	})
	r.expectNoFailure(t)
}

func TestADeployWhoseReaderHasGoneStillPutsABadReleaseBack(t *testing.T) {
	m := install(t)
	first := m.current()
	m.Try("set -o pipefail; bash " + m.script("deploy.sh") + " " + m.next([]byte(crashing), 1) + " | sed /swapping/q")
	m.Eventually(30*time.Second, "the release before", func() bool {
		got, err := m.Try("curl -sS --max-time 5 http://shop.test/")
		return err == nil && strings.HasPrefix(got, "v1:") && m.current() == first
	})
}

func TestACrashLoopUnderTrafficLeavesTheSocketsActive(t *testing.T) {
	m := install(t)
	release := m.next([]byte(crashing), 1)
	m.Run("cp " + release + " /opt/cutover/releases/crash && ln -sfn /opt/cutover/releases/crash /opt/cutover/cutover")
	m.Try("systemctl restart cutover.service")
	for range 30 {
		m.Try("curl -s --max-time 0.2 http://shop.test/")
	}
	m.Eventually(30*time.Second, "six crashes", func() bool {
		var n int
		_, _ = fmt.Sscan(m.Run("systemctl show -P NRestarts cutover.service"), &n)
		return n >= 6
	})
	m.expectSocketsActive()
	m.Run("ln -sfn /opt/cutover/releases/" + m.release + " /opt/cutover/cutover && systemctl restart cutover.service")
	if got := m.Run("curl -sS --max-time 10 http://shop.test/"); !strings.HasPrefix(got, "v1:") {
		t.Errorf("got %q", got)
	}
}

func TestAReleaseThatFailsItsCheckIsNotDeployed(t *testing.T) {
	m := install(t)
	pid := m.Run("systemctl show -P MainPID cutover.service")
	output, err := m.Try("bash " + m.script("deploy.sh") + " " + m.next([]byte(refusing), 1))
	if err == nil || !strings.Contains(output, "nothing was changed") {
		t.Errorf("got %v\n%s", err, output)
	}
	m.Run("echo 'log_levle = \"info\"' >>/etc/cutover/cutover.toml")
	output, err = m.Try("bash " + m.script("deploy.sh") + " " + m.next(m.releaseBytes(), 2))
	if err == nil || !strings.Contains(output, "log_levle") {
		t.Errorf("with a broken configuration: %v\n%s", err, output)
	}
	if got := m.Run("systemctl show -P MainPID cutover.service"); got != pid {
		t.Errorf("the process that ran, %s, was replaced by %s", pid, got)
	}
	if got := m.current(); got != m.release {
		t.Errorf("the symlink leads to %s", got)
	}
}

func TestTenReleasesAreKeptAndRollbackGoesBack(t *testing.T) {
	m := install(t)
	same := m.releaseBytes()
	last := ""
	for i := range 12 {
		last = m.next(same, i+1)
		m.Run("CUTOVER_JUDGE_SECONDS=1 bash " + m.script("deploy.sh") + " " + last)
	}
	if got := m.Run("ls /opt/cutover/releases | wc -l"); got != "10" {
		t.Errorf("%s releases are kept", got)
	}
	before := filepath.Base(m.next(same, 11))
	m.Run("CUTOVER_JUDGE_SECONDS=1 bash " + m.script("rollback.sh"))
	if got := m.current(); got != before {
		t.Errorf("rolled back to %s, want %s", got, before)
	}
}

func TestAKilledProcessComesBack(t *testing.T) {
	m := install(t)
	m.Run("kill -KILL $(systemctl show -P MainPID cutover.service)")
	if got := m.Run("curl -sS --max-time 20 http://shop.test/"); !strings.HasPrefix(got, "v1:") {
		t.Errorf("got %q", got)
	}
}
