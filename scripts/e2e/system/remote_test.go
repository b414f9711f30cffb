package system

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withSSH runs a real ssh server in the box, at which root and deployer, who is nobody special, log in by key.
func (m *machine) withSSH(sshd string) {
	m.t.Helper()
	m.Run("id sshd >/dev/null 2>&1 || useradd --system sshd; mkdir -p /run/sshd; useradd --create-home deployer; usermod -p '*' root; usermod -p '*' deployer")
	m.Run("cd " + tools + " && ssh-keygen -q -t ed25519 -N '' -f host && ssh-keygen -q -t ed25519 -N '' -f user && cp user.pub authorized && chmod 644 authorized")
	m.Run("printf '%s\\n' 'ListenAddress 127.0.0.1' 'Port 22' 'HostKey " + tools + "/host' 'AuthorizedKeysFile " + tools + "/authorized' 'UsePAM no' " +
		"'StrictModes no' 'PidFile none' 'PermitRootLogin yes' 'LogLevel ERROR' >" + tools + "/sshd_config")
	m.Run("rm -rf /root/.ssh && mkdir -m 700 -p /root/.ssh && printf '%s\\n' 'Host *' 'IdentityFile " + tools + "/user' 'StrictHostKeyChecking no' " +
		"'UserKnownHostsFile /dev/null' 'LogLevel ERROR' >/root/.ssh/config")
	m.Start(nil, "env", "LD_LIBRARY_PATH="+libraries(sshd), sshd, "-D", "-f", tools+"/sshd_config")
	m.Eventually(10*time.Second, "ssh", func() bool {
		_, err := m.Try("ssh root@localhost true")
		return err == nil
	})
}

// libraries is where an unpacked program has what it is linked with.
func libraries(program string) string {
	folders, _ := filepath.Glob(filepath.Join(filepath.Dir(program), "../lib/*-linux-*")) // the pattern is good
	return strings.Join(folders, ":")
}

func TestAnotherMachineIsInstalledDeployedToAndRolledBackBySSH(t *testing.T) {
	sshd := fromTest(t, "SSHD")
	m := fresh(t, filepath.Dir(filepath.Dir(filepath.Dir(sshd))))
	m.withSSH(sshd)
	m.Run(m.script("install.sh") + "root@localhost " + m.folder + "/" + m.release)
	m.connect()
	m.expectServing("v1")

	second := m.next(m.releaseBytes(), 1)
	m.Run(m.script("deploy.sh") + "root@localhost " + second)
	m.expectRelease(filepath.Base(second))
	m.Run(m.script("rollback.sh") + "--host root@localhost")
	m.expectRelease(m.release)

	said, err := m.Try(m.script("deploy.sh") + "root@localhost " + m.next([]byte(crashing), 2))
	if err == nil || !strings.Contains(said, "serves again") {
		t.Errorf("a crashing release by ssh: %v\n%s", err, said)
	}
	m.expectRelease(m.release)
	said, err = m.Try(m.script("deploy.sh") + "deployer@localhost " + second)
	if err == nil || !strings.Contains(said, "hint: let deployer use sudo without a password, or log in as root") {
		t.Errorf("a user without sudo: %v\n%s", err, said)
	}
	m.expectRelease(m.release)
	m.expectServing("v1")
	if got := m.Run("ls -d /opt/.cutover-sent.* 2>/dev/null || true"); got != "" {
		t.Errorf("left on the machine: %s", got)
	}
}
