package system

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Restarts are upgrades: the old worker serves until the new one has taken over, and serves again if that dies.

// workerPID is the process that answers on the admin socket.
func (m *machine) workerPID() string {
	m.t.Helper()
	return m.Run("/opt/cutover/cutover status -o json | jq -r .pid")
}

// older counts the workers that were replaced and have not ended.
func (m *machine) older() string {
	m.t.Helper()
	return m.Run("/opt/cutover/cutover status -o json | jq '.older // [] | length'")
}

// processes counts what runs as cutover.
func (m *machine) processes() string { return m.Run("pgrep -c -u cutover || true") }

// withProbation installs with a probation of its own.
func withProbation(t *testing.T, probation string) *machine {
	t.Helper()
	m := install(t)
	m.setProbation(probation)
	return m
}

// setProbation sets a probation, and lets the local CA issue for the host of the load.
func (m *machine) setProbation(probation string) {
	m.t.Helper()
	m.configure("probation = \"" + probation + "\"\n[acme]\nissuer = \"local\"\n")
	m.Run("/opt/cutover/cutover rules set shop.test && systemctl restart cutover.service")
	m.get("--cacert /var/lib/cutover/certs/local/root.pem https://shop.test/")
}

func TestRestartsUnderLoadLoseNothingAndLeaveNobodyBehind(t *testing.T) {
	m := withProbation(t, "1s")
	m.underLoad(func() {
		for range 10 {
			m.Run("systemctl restart cutover.service")
		}
	}).expectNoFailure(t)
	m.Eventually(time.Minute, "end of every older worker", func() bool { return m.older() == "0" && m.processes() == "2" })
	m.expectServing("v1")
	m.expectSocketsActive()
}

func TestAnIdleMachineIsLeftByTheOldWorkerWithoutAnyRequest(t *testing.T) {
	m := withProbation(t, "1s")
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
	m.Run("systemctl restart cutover.service")
	m.Eventually(time.Minute, "two processes again", func() bool { return m.processes() == "2" })
	flags := m.Run("for f in /proc/" + m.workerPID() + "/fd/*; do [ ${f##*/} -gt 2 ] || continue; case $(readlink $f) in socket:*) grep -h flags /proc/" + m.workerPID() + "/fdinfo/${f##*/};; esac; done | sort -u")
	for line := range strings.Lines(flags) {
		var bits int
		if _, err := fmt.Sscanf(line, "flags: %o", &bits); err != nil || bits&0o4000 == 0 {
			t.Errorf("a socket blocks: %s", line)
		}
	}
}

func TestTheOldWorkerServesAgainWhenTheNewOneDiesInProbation(t *testing.T) {
	m := withProbation(t, "1m")
	m.Run("mkdir -p /etc/systemd/system/cutover.service.d && printf '[Service]\\nRestart=no\\n' >/etc/systemd/system/cutover.service.d/once.conf && systemctl daemon-reload")
	old := m.workerPID()
	report := m.underLoad(func() {
		m.Run("systemctl restart cutover.service")
		m.Run("/opt/cutover/cutover rules set during.test --percent 100")
		m.moreRequests()
		m.Run("kill -KILL " + m.workerPID())
		m.Eventually(10*time.Second, "old worker back", func() bool {
			pid, err := m.Try("/opt/cutover/cutover status -o json | jq -r .pid")
			return err == nil && pid == old
		})
		m.Run("/opt/cutover/cutover rules set after.test --percent 100")
		m.moreRequests()
	})
	// What the killed one had accepted died with it; nobody else may feel it.
	if report.Failures > 20 {
		t.Errorf("%d requests failed: %v", report.Failures, report.Failed)
	}
	m.expectRules("after.test during.test shop.test")
	m.expectSocketsActive()
	m.Run("rm /etc/systemd/system/cutover.service.d/once.conf && systemctl daemon-reload")
	m.underLoad(func() { m.Run("systemctl restart cutover.service") }).expectNoFailure(t)
	if m.workerPID() == old {
		t.Error("the old worker was not replaced in the end")
	}
}

func TestAKilledSupervisorCostsNoRequest(t *testing.T) {
	m := withProbation(t, "1s")
	m.underLoad(func() {
		supervisor, worker := m.mainPID(), m.workerPID()
		m.Run("kill -KILL " + supervisor)
		m.Eventually(20*time.Second, "next worker", func() bool {
			pid, err := m.Try("/opt/cutover/cutover status -o json | jq -r .pid")
			return err == nil && pid != worker
		})
	}).expectNoFailure(t)
	m.Eventually(time.Minute, "end of the one before", func() bool { return m.processes() == "2" })
}

func TestSupervisorAndWorkerKilledTogetherComeBack(t *testing.T) {
	m := withProbation(t, "1s")
	m.Run("/opt/cutover/cutover rules set kept.test --percent 100")
	m.Run("kill -KILL " + m.mainPID() + " " + m.workerPID())
	m.expectServing("v1")
	m.expectRules("kept.test shop.test")
	m.expectSocketsActive()
}

func TestAStopEndsEveryWorker(t *testing.T) {
	m := withProbation(t, "1m")
	m.Run("systemctl restart cutover.service && systemctl restart cutover.service")
	m.Run("timeout 38 systemctl stop cutover.service")
	if got := m.processes(); got != "0" {
		t.Errorf("%s processes are left: %s", got, m.Run("ps -u cutover -o pid,args"))
	}
	m.Run("systemctl start cutover.service")
	m.expectServing("v1")
}

func TestAWorkerThatHangsWhileItStartsChangesNothing(t *testing.T) {
	m := withProbation(t, "1s")
	old := m.workerPID()
	m.Run("mkdir -p /etc/systemd/system/cutover.service.d && printf '[Service]\\nTimeoutStartSec=3\\nRestart=no\\nExecStart=\\nExecStart=" + tools + "/service\\nEnvironment=E2E_FAULT=hangs\\n' >/etc/systemd/system/cutover.service.d/hang.conf && systemctl daemon-reload")
	m.underLoad(func() {
		if _, err := m.Try("systemctl restart cutover.service"); err == nil {
			t.Error("systemctl says that it went well")
		}
		if got := m.workerPID(); got != old {
			t.Errorf("process %s serves, not %s", got, old)
		}
	}).expectNoFailure(t)
	m.Run("rm /etc/systemd/system/cutover.service.d/hang.conf && systemctl daemon-reload && systemctl reset-failed cutover.service; systemctl restart cutover.service")
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
	m.expectServing("v1")
}

func TestEditsAcknowledgedDuringRestartsAreAllThere(t *testing.T) {
	m := withProbation(t, "1s")
	m.Run("(for i in $(seq 1 150); do /opt/cutover/cutover rules set e$i.test --percent 100 >/dev/null 2>>/tmp/failed && echo e$i.test; done >/tmp/acknowledged) & " +
		"for n in 1 2 3 4 5 6; do sleep 0.3; systemctl restart cutover.service; done; wait")
	if failed := m.Run("cat /tmp/failed || true"); failed != "" {
		t.Errorf("edits failed: %s", failed)
	}
	if got := m.Run("wc -l </tmp/acknowledged"); got != "150" {
		t.Errorf("%s edits were acknowledged", got)
	}
	if got := m.Run("sqlite3 /var/lib/cutover/rules.db \"SELECT count(*), count(DISTINCT row) FROM changes WHERE host LIKE 'e%.test'; SELECT count(*) FROM rules WHERE host LIKE 'e%.test'\""); got != "150|150\n150" {
		t.Errorf("journal and table say %q", got)
	}
}

func TestAPromptThatHoldsTheLockDoesNotKeepARestartFromHappening(t *testing.T) {
	m := withProbation(t, "1s")
	m.Run("(echo 'BEGIN IMMEDIATE;'; sleep 6; echo 'ROLLBACK;') | sqlite3 /var/lib/cutover/rules.db & sleep 0.3; systemctl restart cutover.service; wait")
	m.expectServing("v1")
	m.Run("/opt/cutover/cutover rules set after.test --percent 100")
}

func TestRestartsInQuickSuccessionWhileALongAnswerIsUnderWay(t *testing.T) {
	m := withProbation(t, "1s")
	m.Run("head -c 30000000 /dev/zero >/tmp/big && (curl -sS --limit-rate 6M --data-binary @/tmp/big --max-time 60 http://shop.test/ >/tmp/long 2>&1; echo $? >>/tmp/long) & sleep 1; " +
		"for n in 1 2 3 4 5; do systemctl restart cutover.service; done; wait")
	if got := m.Run("cat /tmp/long"); !strings.HasPrefix(got, "v1:") || !strings.HasSuffix(got, "0") || !strings.Contains(got, "30000000") {
		t.Errorf("the long request ended with %q", got)
	}
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
}

func TestAfterAFailedRestartTheOldWorkerCanStillBeStopped(t *testing.T) {
	m := withProbation(t, "1s")
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
	m.Run("mkdir -p /etc/systemd/system/cutover.service.d && printf '[Service]\\nRestart=no\\nExecStart=\\nExecStart=/bin/false\\n' >/etc/systemd/system/cutover.service.d/fails.conf && systemctl daemon-reload")
	if _, err := m.Try("systemctl restart cutover.service"); err == nil {
		t.Error("systemctl says that it went well")
	}
	m.Run("systemctl stop cutover.service")
	m.expectServing("v1") // nobody told it
	m.Run("systemctl kill --kill-whom=all --signal=TERM cutover.service")
	m.Eventually(time.Minute, "end of the old worker", func() bool { return m.processes() == "0" })
}

func TestASuccessorThatDiesAtAnyStepCostsNoRequestAndNoEdit(t *testing.T) {
	m := withProbation(t, "1s")
	old := m.workerPID()
	m.underLoad(func() {
		for _, step := range []string{"hello", "prepare", "accepting"} {
			m.Run("mkdir -p /etc/systemd/system/cutover.service.d && printf '[Service]\\nRestart=no\\nExecStart=\\nExecStart=" + tools +
				"/service\\nEnvironment=\"E2E_FAULT=after " + step + "\"\\n' >/etc/systemd/system/cutover.service.d/dies.conf && systemctl daemon-reload")
			if _, err := m.Try("systemctl restart cutover.service"); err == nil {
				t.Errorf("after %s: systemctl says that it went well", step)
			}
			m.Run("/opt/cutover/cutover rules set after-" + step + ".test --percent 100")
			m.moreRequests()
			if got := m.workerPID(); got != old {
				t.Errorf("after %s: process %s serves, not %s", step, got, old)
			}
		}
		m.Run("rm /etc/systemd/system/cutover.service.d/dies.conf && systemctl daemon-reload && systemctl restart cutover.service")
	}).expectNoFailure(t)
	m.expectRules("after-accepting.test after-hello.test after-prepare.test shop.test")
}

func TestTwoRestartsAtOnceAndAReexecutedSystemdLoseNothing(t *testing.T) {
	m := withProbation(t, "1s")
	m.underLoad(func() {
		for range 3 {
			m.Run("systemctl restart --no-block cutover.service; systemctl restart cutover.service & systemctl restart cutover.service; wait; systemctl is-active cutover.service")
		}
		m.Run("systemctl daemon-reexec; systemctl restart cutover.service")
		m.moreRequests()
	}).expectNoFailure(t)
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
}

func TestASymlinkThatIsSwappedWhileAReleaseStartsMakesNoMixture(t *testing.T) {
	m := withProbation(t, "1s")
	other := m.next(m.releaseBytes(), 1)
	m.Run("cp " + other + " /opt/cutover/releases/ && (for n in $(seq 300); do for to in " + m.release + " $(basename " + other + "); do " +
		"ln -s releases/$to /opt/cutover/swap && mv -T /opt/cutover/swap /opt/cutover/cutover; done; done) & " +
		"for n in 1 2 3 4 5; do systemctl restart cutover.service || exit 1; " +
		"[ $(readlink /proc/$(systemctl show -P MainPID cutover.service)/exe) = $(readlink /proc/$(cutover status -o json | jq .pid)/exe) ] || exit 1; done; wait")
	m.expectServing("v1")
}

func TestAWorkerThatHangsIsReplacedByTheWatchdog(t *testing.T) {
	m := withProbation(t, "1s")
	m.Run("mkdir -p /etc/systemd/system/cutover.service.d && printf '[Service]\nWatchdogSec=2\n' >/etc/systemd/system/cutover.service.d/watchdog.conf && systemctl daemon-reload && systemctl restart cutover.service")
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
	worker := m.workerPID()
	m.Run("kill -STOP " + worker)
	m.Eventually(20*time.Second, "next worker", func() bool {
		pid, err := m.Try("timeout 3 /opt/cutover/cutover status -o json | jq -e .pid")
		return err == nil && pid != worker
	})
	m.expectServing("v1")
	m.Eventually(time.Minute, "two processes again", func() bool { return m.processes() == "2" })
}

func TestAStopEndsAWorkerThatHangs(t *testing.T) {
	m := withProbation(t, "1s")
	m.configure("drain_timeout = \"1s\"\nprobation = \"1s\"\n") // the supervisor waits a while beyond it
	m.Run("systemctl restart cutover.service")
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" })
	m.Run("kill -STOP " + m.workerPID())
	m.Run("systemctl stop cutover.service")
	if got := m.processes(); got != "0" {
		t.Errorf("%s processes are left: %s", got, m.Run("ps -u cutover -o pid,stat,args"))
	}
	m.Run("systemctl start cutover.service")
	m.expectServing("v1")
}
