package system

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/scripts/e2e/box"
)

// machine is a box with the scripts, a release, and v1 and v2 running.
type machine struct {
	*box.Box
	t       *testing.T
	folder  string // shared with the box
	release string // the name of the first release
}

// tools is where the box has this test's own program, out of reach of PrivateTmp=.
const tools = "/opt/e2e"

// fromTest reads a variable that scripts/test.sh sets.
func fromTest(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run scripts/test.sh e2e", name)
	}
	return value
}

// fresh boots a box without Cutover; shared are folders that it sees, too.
func fresh(t *testing.T, shared ...string) *machine {
	t.Helper()
	return freshWith(t, fromTest(t, "CUTOVER_RELEASE"), shared...)
}

// freshWith is fresh, with another release to be the first. Boxes share nothing, and their tests wait most of the time.
func freshWith(t *testing.T, release string, shared ...string) *machine {
	t.Helper()
	t.Parallel()
	source := fromTest(t, "CUTOVER_SOURCE")
	m := &machine{t: t, folder: t.TempDir(), release: filepath.Base(release)}
	if err := os.Chmod(m.folder, 0o755); err != nil {
		t.Fatal(err)
	}
	copyFile(t, release, filepath.Join(m.folder, m.release))
	for _, name := range []string{"install.sh", "deploy.sh", "rollback.sh", "lib/release.sh"} {
		copyFile(t, filepath.Join(source, "scripts", name), filepath.Join(m.folder, "scripts", name))
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, self, filepath.Join(m.folder, "service"))
	m.Box = box.Boot(t, append(shared, m.folder)...)
	m.Run("for name in shop other stranger; do echo 127.0.0.1 $name.test; done >>/etc/hosts")
	m.Run("mkdir -p " + tools + " && cp " + m.folder + "/service " + tools + "/service")
	m.service("v1", "127.0.0.1:9001")
	m.service("v2", "127.0.0.1:9002")
	return m
}

// install boots a box and runs install.sh there with the release under test.
func install(t *testing.T, shared ...string) *machine {
	t.Helper()
	m := fresh(t, shared...)
	m.installed()
	return m
}

// installed runs install.sh with the first release, and tells it of v1 and v2.
func (m *machine) installed() {
	m.t.Helper()
	m.Run(m.script("install.sh") + m.folder + "/" + m.release)
	m.connect()
}

// connect tells Cutover of v1 and v2.
func (m *machine) connect() {
	m.t.Helper()
	m.Run("/opt/cutover/cutover upstreams set v1 http://127.0.0.1:9001 && /opt/cutover/cutover upstreams set v2 http://127.0.0.1:9002")
}

// script returns the beginning of a line that runs one of the scripts.
func (m *machine) script(name string) string {
	return "bash " + m.folder + "/scripts/" + name + " --judge 1s "
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// service starts a web service that says its name. It is this test's own program, started again.
func (m *machine) service(name, address string) {
	m.t.Helper()
	m.Start(nil, "env", "E2E_SERVICE="+name, "E2E_ADDRESS="+address, tools+"/service")
	m.Eventually(10*time.Second, "answer of "+name, func() bool {
		_, err := m.Try("curl -s --max-time 1 http://" + address + "/")
		return err == nil
	})
}

// startPebble starts an ACME server inside and returns its directory's URL. The root of that is /etc/pebble-root.pem, that
// of the certificates /etc/pebble-issuer.pem.
func (m *machine) startPebble(arguments ...string) string {
	m.t.Helper()
	copyFile(m.t, fromTest(m.t, "PEBBLE_BOX"), filepath.Join(m.folder, "pebble-box"))
	reader, writer := io.Pipe()
	m.t.Cleanup(func() { _ = reader.Close() })
	arguments = append([]string{"-root", "/etc/pebble-root.pem", "-issuer", "/etc/pebble-issuer.pem"}, arguments...)
	m.Start(writer, filepath.Join(m.folder, "pebble-box"), arguments...)
	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// configure writes cutover.toml.
func (m *machine) configure(text string) {
	m.t.Helper()
	path := filepath.Join(m.folder, "cutover.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.Run("mkdir -p /etc/cutover && cp " + path + " /etc/cutover/cutover.toml")
}

// next makes a later release out of a file's content, and returns its path, the same inside and outside.
func (m *machine) next(content []byte, number int) string {
	m.t.Helper()
	stamp, err := time.Parse("20060102150405", strings.TrimPrefix(m.release, "cutover-"))
	if err != nil {
		m.t.Fatal(err)
	}
	path := filepath.Join(m.folder, "cutover-"+stamp.Add(time.Duration(number)*time.Second).Format("20060102150405"))
	if err := os.WriteFile(path, content, 0o755); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// releaseBytes is the release under test.
func (m *machine) releaseBytes() []byte {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(m.folder, m.release))
	if err != nil {
		m.t.Fatal(err)
	}
	return data
}

// get asks over http and returns the answer, which names the upstream first.
func (m *machine) get(url string) string {
	m.t.Helper()
	return m.Run("curl -sS --max-time 20 " + url)
}

func (m *machine) expectServing(version string) {
	m.t.Helper()
	if got := m.get("http://shop.test/"); !strings.HasPrefix(got, version+":") {
		m.t.Errorf("shop.test answers %q, want %s", got, version)
	}
}

// current is the release that the symlink leads to.
func (m *machine) current() string { return filepath.Base(m.Run("readlink /opt/cutover/cutover")) }

func (m *machine) mainPID() string { return m.Run("systemctl show -P MainPID cutover.service") }

func (m *machine) expectSocketsActive() {
	m.t.Helper()
	if got := m.Run("systemctl is-active cutover-http.socket cutover-https.socket cutover-hold.service"); got != "active\nactive\nactive" {
		m.t.Errorf("sockets and hold unit are %q", got)
	}
}
