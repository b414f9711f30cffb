package system

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// previousRelease is the build before the one under test; false says that there is none here.
func previousRelease(t *testing.T) (path string, found bool) {
	t.Helper()
	path, told := os.LookupEnv("CUTOVER_PREVIOUS")
	if !told {
		t.Fatal("CUTOVER_PREVIOUS is not set: run scripts/test.sh e2e")
	}
	return path, path != ""
}

// takeovers counts the workers so far that took over from another.
func (m *machine) takeovers() int {
	m.t.Helper()
	n, err := strconv.Atoi(m.Run(`journalctl -o cat -u cutover.service | grep -c '"msg":"taken over"' || true`))
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

func TestThisReleaseAndTheOneBeforeTakeOverFromEachOtherUnderLoad(t *testing.T) {
	previous, found := previousRelease(t)
	if !found {
		t.Log("NOT CHECKED: takeovers between this release and the one before, of which there is none here")
		return
	}
	m := freshWith(t, previous)
	m.installed()
	m.setProbation("1s")
	this, err := os.ReadFile(fromTest(t, "CUTOVER_RELEASE"))
	if err != nil {
		t.Fatal(err)
	}
	release := m.next(this, 1)
	before := m.takeovers()
	var acknowledged []string
	m.underLoad(func() {
		for _, step := range []struct{ name, line, serves string }{
			{"up", m.script("deploy.sh") + release, filepath.Base(release)},
			{"down", m.script("rollback.sh"), m.release},
		} {
			acknowledged = append(acknowledged, m.edits(step.name, 5)...)
			m.Run(step.line)
			m.expectRelease(step.serves)
			m.moreRequests()
		}
	}).expectNoFailure(t)
	if got := m.takeovers() - before; got != 2 {
		t.Errorf("%d of 2 restarts were takeovers", got)
	}
	if len(acknowledged) != 10 {
		t.Errorf("%d of 10 edits were acknowledged: %s", len(acknowledged), m.Run("tail -n 3 /tmp/refused"))
	}
	m.expectEdits(acknowledged)
	m.expectSocketsActive()
}
