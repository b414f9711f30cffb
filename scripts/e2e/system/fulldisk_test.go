package system

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// onSmallDisk installs with a file system of its own mounted on a folder.
func onSmallDisk(t *testing.T, folder, options string) *machine {
	t.Helper()
	m := fresh(t)
	m.Run("mkdir -p " + folder + " && mount -t tmpfs -o " + options + " small " + folder)
	m.installed()
	m.setProbation("1s")
	return m
}

// edits makes so many, and returns the hosts of those that were acknowledged.
func (m *machine) edits(name string, count int) (hosts []string) {
	m.t.Helper()
	said := m.Run(fmt.Sprintf("for i in $(seq %d); do /opt/cutover/cutover rules set %s$i.test --percent 100 >/dev/null 2>>/tmp/refused && echo %s$i.test; done; true", count, name, name))
	return strings.Fields(said)
}

// expectEdits looks whether every edit that was acknowledged is in force.
func (m *machine) expectEdits(acknowledged []string) {
	m.t.Helper()
	rules := " " + m.Run("/opt/cutover/cutover rules ls -o json | jq -r '.rules[].host' | tr '\\n' ' '") + " "
	for _, host := range acknowledged {
		if !strings.Contains(rules, " "+host+" ") {
			m.t.Errorf("the edit of %s was acknowledged, and is lost", host)
		}
	}
}

// restart restarts the service, and reports whether systemd calls that a success.
func (m *machine) restart() bool {
	said, err := m.Try("systemctl restart cutover.service")
	if err != nil {
		m.t.Logf("the restart failed: %s", said)
	}
	return err == nil
}

func TestARestartWhileTheDiskIsFullCostsNoRequestAndNoEdit(t *testing.T) {
	const state = "/var/lib/cutover"
	m := onSmallDisk(t, state, "size=16m")
	acknowledged := m.edits("before", 10)
	m.underLoad(func() {
		m.Run("! head -c 100000000 /dev/zero >" + state + "/filler")
		for n := range 3 {
			if !m.restart() {
				t.Error("it cannot start though it could serve the rules that it has")
			}
			acknowledged = append(acknowledged, m.edits(fmt.Sprintf("full%d-", n), 10)...)
			m.moreRequests()
		}
		m.Run("rm " + state + "/filler")
		m.Eventually(20*time.Second, "edit that is taken again", func() bool { return len(m.edits("after", 1)) == 1 })
		if !m.restart() {
			t.Error("with space again it cannot start")
		}
		acknowledged = append(acknowledged, m.edits("later", 10)...)
	}).expectNoFailure(t)
	t.Logf("%d edits acknowledged, %s refused", len(acknowledged), m.Run("cat /tmp/refused 2>/dev/null | grep -c 'disk is full' || true"))
	if len(acknowledged) < 20 {
		t.Errorf("only %d edits were acknowledged; the others were refused: %s", len(acknowledged), m.Run("tail -n 3 /tmp/refused"))
	}
	m.expectEdits(acknowledged)
	m.expectSocketsActive()
}

func TestAKilledWorkerComesBackThoughTheDiskIsFull(t *testing.T) {
	const state = "/var/lib/cutover"
	m := onSmallDisk(t, state, "size=16m")
	acknowledged := m.edits("before", 10)
	m.Run("! head -c 100000000 /dev/zero >" + state + "/filler")
	m.Run("kill -KILL " + m.mainPID() + " " + m.workerPID())
	m.expectServing("v1")
	m.Run("rm " + state + "/filler")
	m.Eventually(20*time.Second, "edit that is taken again", func() bool { return len(m.edits("after", 1)) == 1 })
	m.expectEdits(acknowledged)
}

func TestARestartWithoutRoomForSocketsFailsAndTheOldWorkerServesOn(t *testing.T) {
	const runtime = "/run/cutover"
	m := onSmallDisk(t, runtime, "nr_inodes=40")
	var acknowledged []string
	m.Eventually(time.Minute, "two processes", func() bool { return m.processes() == "2" }) // one that ends makes room
	old := m.workerPID()
	m.underLoad(func() {
		m.Run("i=0; while : >" + runtime + "/filler$i; do i=$((i + 1)); done 2>/dev/null; [ $i -gt 0 ]")
		if m.restart() {
			t.Error("systemctl says that it went well")
		}
		acknowledged = append(acknowledged, m.edits("full", 10)...)
		m.moreRequests()
		if got := m.workerPID(); got != old {
			t.Errorf("process %s serves, not %s", got, old)
		}
		m.Run("rm " + runtime + "/filler*")
		m.Eventually(30*time.Second, "next worker", func() bool { return m.workerPID() != old })
		acknowledged = append(acknowledged, m.edits("after", 10)...)
	}).expectNoFailure(t)
	if len(acknowledged) != 20 {
		t.Errorf("only %d edits were acknowledged; the others were refused: %s", len(acknowledged), m.Run("tail -n 3 /tmp/refused"))
	}
	m.expectEdits(acknowledged)
	m.expectSocketsActive()
}
