package system

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"cutover/scripts/e2e/box"
)

// stuckAddress is where a target listens that takes no connections: a worker that starts waits a second for it.
const stuckAddress = "127.0.0.1:9009"

// canRunOutOfMemory says what this machine lets nobody check.
func (m *machine) canRunOutOfMemory() bool {
	m.t.Helper()
	seen, err := m.MemoryController()
	switch {
	case errors.Is(err, box.ErrNoMemoryController):
		m.t.Log("NOT CHECKED: workers that run out of memory:", err)
		return false
	case err != nil:
		m.t.Fatal(err)
	case !seen:
		m.t.Log("NOT CHECKED: what systemd does when a worker runs out of memory (OOMPolicy=): its memory controller is that of cgroup v1 here")
	}
	return true
}

// outOfMemory has the kernel end a process for want of memory, and systemd learn of it if it can.
func (m *machine) outOfMemory(pid string) {
	m.t.Helper()
	if err := m.OutOfMemory(pid); err != nil {
		m.t.Fatal(err)
	}
	if seen, _ := m.MemoryController(); !seen {
		return
	}
	m.Eventually(10*time.Second, "word of systemd's", func() bool {
		_, err := m.Try("journalctl -o cat -u cutover.service | grep -q 'killed by the OOM killer'")
		return err == nil
	})
}

// oomScore is what is added to a process's claim to be killed when memory runs out; -1 if it has ended.
func (m *machine) oomScore(pid string) int {
	text, err := m.Try("cat /proc/" + pid + "/oom_score_adj")
	score, nonsense := strconv.Atoi(text)
	if err != nil || nonsense != nil {
		return -1
	}
	return score
}

// holdLoading waits for a worker that loads and would be the first to die, and returns its id. It loads no further for two
// seconds, since on a busy machine it would be ready before anybody has looked twice.
func (m *machine) holdLoading(serving string) (pid string) {
	m.t.Helper()
	return m.Run(`for i in $(seq 4000); do
		supervisor=$(systemctl show -P MainPID cutover.service)
		[ "$supervisor" != 0 ] && pid=$(pgrep -P "$supervisor") && [ "$pid" != ` + serving + ` ] &&
			[ "$(cat /proc/$pid/oom_score_adj)" -gt "$(cat /proc/` + serving + `/oom_score_adj)" ] && kill -STOP "$pid" && break
		sleep 0.005
	done 2>/dev/null
	(sleep 2; kill -CONT "$pid") >/dev/null 2>&1 &
	echo "$pid"`)
}

func TestAWorkerThatRunsOutOfMemoryWhileItStartsChangesNothing(t *testing.T) {
	m := withProbation(t, "1s")
	if !m.canRunOutOfMemory() {
		return
	}
	m.Start(nil, "env", "E2E_STUCK="+stuckAddress, tools+"/service")
	m.Run("/opt/cutover/cutover upstreams set stuck http://" + stuckAddress)
	old := m.workerPID()
	score := m.oomScore(old)
	m.underLoad(func() {
		m.Run("(systemctl restart cutover.service; echo $? >/tmp/restarted) >/dev/null 2>&1 &")
		m.outOfMemory(m.holdLoading(old))
		m.Run("/opt/cutover/cutover rules set during.test --percent 100")
		m.Eventually(20*time.Second, "word of systemctl", func() bool { return m.Run("cat /tmp/restarted 2>/dev/null || true") != "" })
		if got := m.Run("cat /tmp/restarted"); got == "0" {
			t.Error("systemctl says that it went well")
		}
		m.Eventually(20*time.Second, "next worker", func() bool { return m.workerPID() != old })
	}).expectNoFailure(t)
	if got := m.oomScore(m.workerPID()); got != score {
		t.Errorf("a worker that serves would die by a score of %d, not %d", got, score)
	}
	m.expectRules("during.test shop.test")
	m.expectSocketsActive()
}

func TestTheOldWorkerServesAgainWhenTheNewOneRunsOutOfMemoryInProbation(t *testing.T) {
	m := withProbation(t, "1m")
	if !m.canRunOutOfMemory() {
		return
	}
	m.Run("mkdir -p /etc/systemd/system/cutover.service.d && printf '[Service]\\nRestart=no\\n' >/etc/systemd/system/cutover.service.d/once.conf && systemctl daemon-reload")
	old := m.workerPID()
	report := m.underLoad(func() {
		m.Run("systemctl restart cutover.service")
		m.Run("/opt/cutover/cutover rules set during.test --percent 100")
		m.moreRequests()
		m.outOfMemory(m.workerPID())
		m.Eventually(10*time.Second, "old worker back", func() bool {
			pid, err := m.Try("/opt/cutover/cutover status -o json | jq -r .pid")
			return err == nil && pid == old
		})
		m.moreRequests()
	})
	// What the killed one had accepted died with it; nobody else may feel it.
	if report.Failures > 20 {
		t.Errorf("%d requests failed: %v", report.Failures, report.Failed)
	}
	m.expectRules("during.test shop.test")
	m.expectSocketsActive()
}

func TestAnOldWorkerThatRunsOutOfMemoryTakesNoOtherWithIt(t *testing.T) {
	m := withProbation(t, "1m")
	if !m.canRunOutOfMemory() {
		return
	}
	old := m.workerPID()
	m.Run("systemctl restart cutover.service")
	serving, supervisor := m.workerPID(), m.mainPID()
	// It needs no memory as long as nobody asks it anything.
	m.Run("(for i in $(seq 100); do /opt/cutover/cutover status; sleep 0.1; done) >/dev/null 2>&1 &")
	m.outOfMemory(old)
	m.expectServing("v1")
	if got := m.workerPID(); got != serving || m.mainPID() != supervisor {
		t.Errorf("process %s of %s serves, not %s of %s", got, m.mainPID(), serving, supervisor)
	}
	m.expectSocketsActive()
}

func TestAServingWorkerThatRunsOutOfMemoryComesBack(t *testing.T) {
	m := withProbation(t, "1s")
	if !m.canRunOutOfMemory() {
		return
	}
	m.Run("/opt/cutover/cutover rules set kept.test --percent 100")
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
	worker := m.workerPID()
	m.underLoad(func() {
		m.outOfMemory(worker)
		m.Eventually(20*time.Second, "next worker", func() bool {
			pid, err := m.Try("/opt/cutover/cutover status -o json | jq -e .pid")
			return err == nil && pid != worker
		})
		m.moreRequests()
	})
	m.expectServing("v1")
	m.expectRules("kept.test shop.test")
	m.expectSocketsActive()
}

// expectRules looks whether there are rules for these hosts and no others.
func (m *machine) expectRules(hosts string) {
	m.t.Helper()
	if got := m.Run("/opt/cutover/cutover rules ls -o json | jq -r '.rules[].host' | sort | tr '\\n' ' '"); got != strings.TrimSpace(hosts) {
		m.t.Errorf("the rules are for %q, not %q", got, hosts)
	}
}
