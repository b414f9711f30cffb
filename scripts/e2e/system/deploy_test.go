package system

import (
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

// faulty passes its own check and goes wrong later; see fail.
func faulty(fault string) []byte {
	return fmt.Appendf(nil, "#!/bin/sh\ncase \"$*\" in *--check*) exit 0;; esac\nexec env E2E_FAULT=%s %s/service \"$@\"\n", fault, tools)
}

// deploy runs deploy.sh and returns what it says.
func (m *machine) deploy(release string) (string, error) {
	m.t.Helper()
	return m.Try(m.script("deploy.sh") + release)
}

// mustDeploy deploys, and looks whether the release serves.
func (m *machine) mustDeploy(release string) {
	m.t.Helper()
	if said, err := m.deploy(release); err != nil {
		m.t.Fatalf("deploying %s: %v\n%s", release, err, said)
	}
	m.expectRelease(filepath.Base(release))
}

// expectRelease looks whether the symlink leads to a release and the service runs it.
func (m *machine) expectRelease(name string) {
	m.t.Helper()
	if got := m.current(); got != name {
		m.t.Errorf("the symlink leads to %s, not to %s", got, name)
	}
	if got := filepath.Base(m.Run("readlink /proc/" + m.mainPID() + "/exe")); got != name {
		m.t.Errorf("the service runs %s, not %s", got, name)
	}
}

func TestDeploysAndARollbackUnderLoadLoseNoRequest(t *testing.T) {
	m := install(t)
	m.withHTTPS()
	same := m.releaseBytes()
	r := m.underLoad(func() {
		for i := range 3 {
			m.mustDeploy(m.next(same, i+1))
		}
		m.Run(m.script("rollback.sh"))
		m.expectRelease(filepath.Base(m.next(same, 2)))
	})
	r.expectNoFailure(t)
	m.expectSocketsActive()
}

func TestTenCrashingReleasesInARowAreRolledBackUnderTraffic(t *testing.T) {
	m := install(t)
	m.withHTTPS()
	r := m.underLoad(func() {
		for i := range 10 {
			said, err := m.deploy(m.next([]byte(crashing), i+1))
			if err == nil || !strings.Contains(said, "serves again") {
				t.Fatalf("deploying a crashing release: %v\n%s", err, said)
			}
			m.expectRelease(m.release)
			m.expectSocketsActive()
		}
	})
	r.expectNoFailure(t)
	if got := m.Run("ls /opt/cutover/releases"); got != m.release {
		t.Errorf("releases that never served are kept: %s", got)
	}
}

func TestReleasesThatGoWrongLaterAreRolledBackUnderTraffic(t *testing.T) {
	m := install(t)
	m.withHTTPS()
	m.Run("mkdir /etc/systemd/system/cutover.service.d && printf '[Service]\\nTimeoutStartSec=3\\n' >/etc/systemd/system/cutover.service.d/soon.conf && systemctl daemon-reload")
	r := m.underLoad(func() {
		for i, fault := range []string{"dies", "hangs"} {
			said, err := m.deploy(m.next(faulty(fault), i+1))
			if err == nil || !strings.Contains(said, "serves again") {
				t.Fatalf("deploying a release that %s: %v\n%s", fault, err, said)
			}
			m.expectRelease(m.release)
			m.expectSocketsActive()
		}
	})
	r.expectNoFailure(t)
}

func TestADeployWhoseReaderHasGoneStillPutsABadReleaseBack(t *testing.T) {
	m := install(t)
	m.Try("set -o pipefail; " + m.script("deploy.sh") + m.next([]byte(crashing), 1) + " | sed /swapping/q") // it says that the deploy failed
	m.Eventually(30*time.Second, "the release before", func() bool {
		got, err := m.Try("curl -sS --max-time 5 http://shop.test/")
		return err == nil && strings.HasPrefix(got, "v1:") && m.current() == m.release
	})
}

func TestADeployThatIsToldToEndIsNotLeftHalfWay(t *testing.T) {
	m := install(t)
	release := m.next(m.releaseBytes(), 1)
	said, err := m.Try(m.script("deploy.sh") + release + " & pid=$!; until [ \"$(readlink /opt/cutover/cutover)\" = /opt/cutover/releases/" +
		filepath.Base(release) + " ]; do sleep 0.01; done; kill -TERM $pid; kill -HUP $pid; wait $pid")
	if err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	m.expectRelease(filepath.Base(release))
}

func TestACrashLoopUnderTrafficLeavesTheSocketsActive(t *testing.T) {
	m := install(t)
	release := m.next([]byte(crashing), 1)
	m.Run("cp " + release + " /opt/cutover/releases/crash && ln -sfn /opt/cutover/releases/crash /opt/cutover/cutover")
	m.Try("systemctl restart cutover.service") // it fails
	for range 30 {
		m.Try("curl -s --max-time 0.1 http://shop.test/") // it waits
	}
	m.Eventually(30*time.Second, "six crashes", func() bool {
		var n int
		_, err := fmt.Sscan(m.Run("systemctl show -P NRestarts cutover.service"), &n)
		return err == nil && n >= 6
	})
	m.expectSocketsActive()
	m.Run("ln -sfn /opt/cutover/releases/" + m.release + " /opt/cutover/cutover && systemctl restart cutover.service")
	m.expectServing("v1")
}

func TestAReleaseThatFailsItsCheckIsNotDeployed(t *testing.T) {
	m := install(t)
	pid := m.mainPID()
	refused := func(content []byte, why string) {
		t.Helper()
		release := m.next(content, 1)
		said, err := m.deploy(release)
		if err == nil || !strings.Contains(said, "nothing was changed") || !strings.Contains(said, why) {
			t.Errorf("%v, want a refusal for %s:\n%s", err, why, said)
		}
		if m.mainPID() != pid || m.current() != m.release {
			t.Errorf("what ran was touched: process %s, now %s; release %s", pid, m.mainPID(), m.current())
		}
		if _, err := m.Try("ls /opt/cutover/releases/" + filepath.Base(release)); err == nil {
			t.Error("the refused release is kept")
		}
	}
	refused([]byte(refusing), "this release cannot read them")
	refused([]byte("\x7fELF of another machine"), "Exec format error")
	m.configure("log_levle = \"info\"\n")
	refused(m.releaseBytes(), "log_levle")
	m.configure("")
	m.Run("mkdir /etc/systemd/system/cutover.service.d && printf '[Service]\\nEnvironment=CUTOVER_LOG_LEVEL=loud\\n' >/etc/systemd/system/cutover.service.d/local.conf")
	refused(m.releaseBytes(), "loud") // as the service would see it
	m.expectServing("v1")
	if got := m.Run("ls /run/systemd/system /run/cutover-check* 2>/dev/null | grep check || true"); got != "" {
		t.Errorf("the checks left %s", got)
	}
}

func TestAReleaseIsNeverReplacedByAnotherOfTheSameName(t *testing.T) {
	m := install(t)
	said, err := m.deploy(m.next([]byte(crashing), 0))
	if err == nil || !strings.Contains(said, "is another one; nothing was changed") {
		t.Errorf("%v\n%s", err, said)
	}
	m.Run("systemctl restart cutover.service")
	m.expectRelease(m.release)
}

func TestARefusedDeployLeavesTheDatabaseAsItIs(t *testing.T) {
	m := install(t)
	m.Run("/opt/cutover/cutover rules set shop.test --percent 100 && systemctl stop cutover.service")
	m.Run("cp -a /var/lib/cutover/rules.db /var/lib/cutover/before && printf 'no database' >/var/lib/cutover/rules.db")
	if said, err := m.deploy(m.next(m.releaseBytes(), 1)); err == nil {
		t.Errorf("a release took a broken database for good:\n%s", said)
	}
	if got := m.Run("cat /var/lib/cutover/rules.db"); got != "no database" {
		t.Errorf("the check wrote to the database: %q", got)
	}
	m.Run("mv /var/lib/cutover/before /var/lib/cutover/rules.db && systemctl start cutover.service")
	m.expectServing("v2")
}

func TestTwoDeploysAtOnceAreOneTooMany(t *testing.T) {
	m := install(t)
	pid := m.mainPID()
	m.Start(nil, "flock", "/opt/cutover/.deploy.lock", "sleep", "infinity")
	m.Eventually(5*time.Second, "lock that is held", func() bool {
		_, err := m.Try("flock --nonblock /opt/cutover/.deploy.lock true")
		return err != nil
	})
	for _, script := range []string{"deploy.sh", "install.sh"} {
		said, err := m.Try(m.script(script) + m.next(m.releaseBytes(), 1))
		if err == nil || !strings.Contains(said, "another deploy is under way") {
			t.Errorf("%s: %v\n%s", script, err, said)
		}
	}
	if m.mainPID() != pid || m.current() != m.release {
		t.Error("something was deployed")
	}
}

func TestTenReleasesAreKeptAndRollbackGoesBackAndForth(t *testing.T) {
	m := install(t)
	same := m.releaseBytes()
	if said, err := m.Try(m.script("rollback.sh")); err == nil || !strings.Contains(said, "no release before this one") {
		t.Errorf("a first release was rolled back: %v\n%s", err, said)
	}
	for i := range 12 {
		m.mustDeploy(m.next(same, i+1))
	}
	if got := m.Run("ls /opt/cutover/releases | wc -l"); got != "10" {
		t.Errorf("%s releases are kept", got)
	}
	last, before := filepath.Base(m.next(same, 12)), filepath.Base(m.next(same, 11))
	for _, want := range []string{before, last, before} {
		m.Run(m.script("rollback.sh"))
		m.expectRelease(want)
	}
}

func TestPruningSparesTheReleaseInUseAndTheOneBefore(t *testing.T) {
	m := install(t)
	m.mustDeploy(m.next(m.releaseBytes(), 1))
	// Twelve later ones that were never in use, then a deploy of an older one: it and its predecessor must stay.
	m.Run("for i in $(seq 10 21); do cp /opt/cutover/cutover /opt/cutover/releases/cutover-299901010000$i; done")
	older := filepath.Join(m.folder, "cutover-20000101000000")
	if err := os.WriteFile(older, m.releaseBytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	m.mustDeploy(older)
	m.Run(m.script("rollback.sh"))
	m.expectRelease(filepath.Base(m.next(m.releaseBytes(), 1)))
}

func TestAKilledProcessComesBack(t *testing.T) {
	m := install(t)
	pid := m.mainPID()
	m.Run("kill -KILL " + pid)
	m.expectServing("v1")
	if m.mainPID() == pid {
		t.Error("it was not killed")
	}
	m.expectSocketsActive()
}

// serving makes a release of this test's own program that is up and ready, and fails so often by its own fault.
func (m *machine) serving(number int, perSecond string) (path string) {
	m.t.Helper()
	self, err := os.ReadFile(filepath.Join(m.folder, "service"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.Run("mkdir -p /etc/systemd/system/cutover.service.d && printf '[Service]\\nEnvironment=E2E_FAULT=" + perSecond + "\\nWatchdogSec=0\\n' >/etc/systemd/system/cutover.service.d/fault.conf")
	return m.next(self, number)
}

func TestAReleaseThatServesWithFailuresOfItsOwnIsPutBack(t *testing.T) {
	m := install(t)
	said, err := m.Try(m.script("deploy.sh") + "--judge 20s " + m.serving(1, "2"))
	if err == nil || !strings.Contains(said, "failures itself (panic)") || !strings.Contains(said, "serves again") {
		t.Errorf("%v\n%s", err, said)
	}
	m.expectRelease(m.release)
	m.expectServing("v1")
	if said, err := m.Try(m.script("deploy.sh") + "--judge 5s " + m.serving(2, "0")); err != nil {
		t.Errorf("without those failures it is refused, too: %v\n%s", err, said)
	}
}

func TestAMachineWithAReleaseThatKnowsNoDeployIsDeployedToByTheNewOne(t *testing.T) {
	m := install(t)
	m.Run("printf '#!/bin/sh\\n[ \"$1\" != --help ] || exit 0\\nexec /opt/cutover/releases/" + m.release + " \"$@\"\\n' >/opt/cutover/releases/old && " +
		"chmod 755 /opt/cutover/releases/old && ln -sfn /opt/cutover/releases/old /opt/cutover/cutover && systemctl restart cutover")
	said, err := m.Try(m.script("rollback.sh"))
	if err == nil || !strings.Contains(said, "too old to know 'cutover rollback'") {
		t.Errorf("%v\n%s", err, said)
	}
	m.mustDeploy(m.next(m.releaseBytes(), 1))
	m.expectServing("v1")
}

func TestADryRunOfADeployOnlyChecks(t *testing.T) {
	m := install(t)
	pid := m.mainPID()
	if said := m.Run(m.script("deploy.sh") + "--dry-run " + m.next(m.releaseBytes(), 1)); !strings.Contains(said, "nothing was changed") {
		t.Errorf("it says %s", said)
	}
	if said, err := m.Try(m.script("deploy.sh") + "--dry-run " + m.next([]byte(refusing), 2)); err == nil {
		t.Errorf("it is content with a release that refuses:\n%s", said)
	}
	if got := m.Run("ls /opt/cutover/releases"); got != m.release || m.mainPID() != pid {
		t.Errorf("releases: %s; process %s, was %s", got, m.mainPID(), pid)
	}
}
