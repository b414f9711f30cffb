package system

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"cutover/proxy/discovery/digitalocean/dotest"
)

// serveAccount is an API of DigitalOcean with a droplet at an address, and prints its URL.
func serveAccount(address string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	api := dotest.New()
	defer api.Close()
	api.Add("web-1", []string{"web"}, address)
	fmt.Fprintln(os.Stdout, api.URL)
	<-stop
	return 0
}

// startAccount starts an API inside and returns its URL.
func (m *machine) startAccount(address string) string {
	m.t.Helper()
	reader, writer := io.Pipe()
	m.t.Cleanup(func() { _ = reader.Close() })
	m.Start(writer, "env", "E2E_ACCOUNT="+address, tools+"/service")
	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// The sandbox of the unit must let the daemon look everything up, and systemd hand it the token, which its user may not read.
func TestTargetsAreFoundByADaemonThatIsNotRoot(t *testing.T) {
	m := fresh(t)
	api := m.startAccount("127.0.0.1")
	m.configure("[acme]\nissuer = \"off\"\n[digitalocean]\nurl = \"" + api + "\"\ntoken_file = \"/etc/cutover/digitalocean.token\"\n")
	m.Run("echo " + dotest.Token + " | install -m 600 /dev/stdin /etc/cutover/digitalocean.token")
	m.Run("mount --make-rshared /") // as on a machine that is no container: systemd hands credentials over by a mount
	m.Run("mkdir -p /etc/systemd/system/cutover.service.d && printf '[Service]\\nLoadCredential=digitalocean.token:/etc/cutover/digitalocean.token\\n' >/etc/systemd/system/cutover.service.d/token.conf")
	m.installed()
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := m.Try("/opt/cutover/cutover status")
			t.Log(text)
		}
	})
	answers := func(want string) {
		t.Helper()
		got := ""
		m.Eventually(time.Minute, "answer of "+want, func() bool {
			got, _ = m.Try("curl -s --max-time 5 http://shop.test/")
			return strings.HasPrefix(got, want+":")
		})
	}
	m.Run("echo http://127.0.0.1:9002 >/etc/cutover/targets/pool")
	for _, row := range []struct{ target, want string }{
		{"file:pool", "v2"}, {"droplets+http://web:9001", "v1"}, {"dns+http://other.test:9002", "v2"},
	} {
		m.Run("/opt/cutover/cutover upstreams set v1 " + row.target)
		answers(row.want)
		if text := m.Run("/opt/cutover/cutover status"); !strings.Contains(text, "by "+row.target) {
			t.Errorf("%s: %s", row.target, text)
		}
	}
	m.Run("/opt/cutover/cutover droplets ls --tag web | grep web-1")
	m.Run("/opt/cutover/cutover upstreams set v1 droplets+http://web:9001 && systemctl restart cutover.service")
	answers("v1")
	m.Run("/opt/cutover/cutover upstreams set v1 file:pool")
	answers("v2")
	m.Run("chmod 600 /etc/cutover/targets/pool && echo http://127.0.0.1:9001 >/etc/cutover/targets/pool")
	m.Eventually(time.Minute, "word of a file that it may not read", func() bool {
		text, _ := m.Try("/opt/cutover/cutover status")
		return strings.Contains(text, "sudo chmod a+r /etc/cutover/targets/pool")
	})
	answers("v2")
	if text := m.Run("journalctl -u cutover.service"); strings.Contains(text, dotest.Token) {
		t.Error("the token is in the journal")
	}
}
