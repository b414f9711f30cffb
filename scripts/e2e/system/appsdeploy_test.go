package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// executable makes a program that says its name and is told more; the file is the same inside and outside.
func (m *machine) executable(name, more string) string {
	m.t.Helper()
	path := filepath.Join(m.folder, name)
	script := fmt.Sprintf("#!/bin/sh\nexec env E2E_NAME=%s %s %s/service \"$@\"\n", name, more, tools)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		m.t.Fatal(err)
	}
	return path
}

func (m *machine) expectProgram(name string) {
	m.t.Helper()
	if got := m.get("http://shop.test/"); !strings.HasPrefix(got, name+":") {
		m.t.Errorf("shop.test answers %q, want %s", got, name)
	}
}

func TestDeploysAndARollbackOfAProgramUnderLoadLoseNoRequest(t *testing.T) {
	m := withApp(t, "http", "--health /up --env E2E_DELAY=500ms")
	m.withHTTPS()
	r := m.underLoad(func() {
		for i := range 3 {
			name := fmt.Sprintf("shop%d", i+1)
			m.Run(program + " app deploy shop " + m.executable(name, ""))
			m.expectProgram(name)
			m.moreRequests()
		}
		m.Run(program + " app rollback shop")
		m.expectProgram("shop2")
		m.moreRequests()
	})
	r.expectNoFailure(t)
	if got := m.Run("systemctl list-units --plain --no-legend --state=active 'cutover-app@shop:*.service' | wc -l"); got != "1" {
		t.Errorf("%s services run", got)
	}
	if got := m.Run("ls /opt/cutover/apps/shop | wc -l"); got != "3" {
		t.Errorf("%s executables are kept", got)
	}
	m.Reboot()
	m.Eventually(30*time.Second, "the same program after a reboot", func() bool {
		got, _ := m.Try("curl -s --max-time 20 http://shop.test/")
		return strings.HasPrefix(got, "shop2:")
	})
}

func TestARequestThatIsUnderWayEndsWithTheExecutableThatBeganIt(t *testing.T) {
	m := withApp(t, "http", "")
	slow := make(chan string)
	go func() {
		got, err := m.Try("curl -sS --max-time 60 http://shop.test/slow")
		slow <- fmt.Sprint(got, err)
	}()
	m.Eventually(10*time.Second, "a request under way", func() bool {
		return m.Run("curl -s --unix-socket /run/cutover/admin.sock http://admin/metrics | grep -c '^cutover_requests_in_flight 1' || true") != "0"
	})
	m.Run(program + " app deploy shop " + m.executable("shop1", ""))
	if got := <-slow; !strings.HasPrefix(got, "shop:") {
		t.Errorf("it got %q", got)
	}
	m.expectProgram("shop1")
}

func TestAnExecutableThatIsNotHealthyNeverServes(t *testing.T) {
	m := withApp(t, "http", "--health /up")
	m.withHTTPS()
	before := m.appPID("shop")
	r := m.underLoad(func() {
		for _, more := range []string{"E2E_SICK=1", "E2E_DELAY=1h", "LISTEN_FDS=2"} {
			said, err := m.Try(program + " app deploy shop --timeout 3s " + m.executable("bad", more))
			if err == nil || !strings.Contains(said, "slot a serves on") || !strings.Contains(said, "journalctl -n 50 -u 'cutover-app@shop:b.service'") {
				t.Errorf("%s: %v\n%s", more, err, said)
			}
			m.expectProgram("shop")
		}
		crashing := filepath.Join(m.folder, "crashing")
		if err := os.WriteFile(crashing, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if said, err := m.Try(program + " app deploy shop " + crashing); err == nil || !strings.Contains(said, "it ends again and again") {
			t.Errorf("%v\n%s", err, said)
		}
	})
	r.expectNoFailure(t)
	if after := m.appPID("shop"); after != before {
		t.Errorf("process %s became %s", before, after)
	}
	if got := m.Run("ls /opt/cutover/apps/shop; systemctl list-units --all --plain --no-legend 'cutover-app@shop:b*'"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
	if said, err := m.Try(program + " app rollback shop"); err == nil || !strings.Contains(said, "no executable before") {
		t.Errorf("%v\n%s", err, said)
	}
}

func TestADeployThatIsToldToStopBeforeTheChangeChangesNothing(t *testing.T) {
	m := withApp(t, "http", "--health /up")
	said, err := m.Try(program + " app deploy shop " + m.executable("late", "E2E_DELAY=1h") + " & pid=$!; " +
		"until systemctl is-active --quiet cutover-app@shop:b.service; do sleep 0.05; done; kill -TERM $pid; wait $pid")
	if err == nil || !strings.Contains(said, "slot a serves on") {
		t.Errorf("%v\n%s", err, said)
	}
	m.expectProgram("shop")
	if got := m.Run("systemctl list-units --all --plain --no-legend 'cutover-app@shop:b*'"); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestADeployOrAnAddOfAProgramThatIsKilledIsShownAndCanBeEnded(t *testing.T) {
	m := withApp(t, "http", "--health /up")
	late := m.executable("late", "E2E_DELAY=1h")
	_, _ = m.Try(program + " app deploy shop " + late + " & pid=$!; until systemctl is-active --quiet cutover-app@shop:b.service; do sleep 0.05; done; kill -KILL $pid; wait $pid") // its exit code says that it was killed
	if got := m.Run(program + " app show shop -o json | jq -r .beside"); got != "cutover-app@shop:b.service" {
		t.Errorf("beside it there is %q", got)
	}
	m.Run(program + " app restart shop")
	if got := m.Run("systemctl list-units --plain --no-legend --state=active 'cutover-app@shop:b*'"); got != "" {
		t.Errorf("after a restart there is still:\n%s", got)
	}
	m.expectProgram("shop")
	_, _ = m.Try(program + " app add half --user shop --health /up --env E2E_APP=http --env E2E_DELAY=1h --exec " + tools + "/service & pid=$!; " +
		"until systemctl is-active --quiet cutover-app@half:a.service; do sleep 0.05; done; kill -KILL $pid; wait $pid") // its exit code says that it was killed
	if got := m.Run(program + " app ls"); !strings.Contains(got, "half was not added to the end") {
		t.Errorf("it lists:\n%s", got)
	}
	m.Run(program + " app rm half")
	if got := m.Run("ls /etc/cutover/apps; systemctl list-units --all --plain --no-legend 'cutover-app@half*'"); strings.Contains(got, "half") {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestProgramsThatSpeakOtherProtocolsServe(t *testing.T) {
	for kind, flags := range map[string]string{"h2c": "--h2c --health /up", "stdin": "--stdin --health /up", "fcgi": "--fcgi --stdin"} {
		t.Run(kind, func(t *testing.T) {
			m := withApp(t, kind, flags)
			m.Run(program + " app deploy shop " + m.executable("shop1", ""))
			m.expectProgram("shop1")
		})
	}
}

func TestARowThatNamesAProgramThatRootHasNotSaysWhy(t *testing.T) {
	m := withApp(t, "http", "")
	m.Run(program + " upstreams set v1 app:nosuch")
	if got := m.Run("curl -s -o /dev/null -w '%{http_code}' --max-time 20 http://shop.test/"); got != "502" && got != "503" {
		t.Errorf("it answers %s", got)
	}
	m.Eventually(20*time.Second, "reason in the log", func() bool {
		return strings.Contains(m.Run("journalctl -o cat --no-pager -u cutover"), "there is no program nosuch")
	})
	m.Run(program + " upstreams set v1 app:shop && chown nobody /etc/cutover/apps/shop.current && systemctl restart cutover.service")
	m.Eventually(20*time.Second, "reason in the log", func() bool {
		return strings.Contains(m.Run("journalctl -o cat --no-pager -u cutover"), "could have been written by others than root")
	})
	m.Run("chown root /etc/cutover/apps/shop.current")
	m.Eventually(20*time.Second, "answer", func() bool { return strings.HasPrefix(m.get("http://shop.test/"), "shop:") })
}

const cgiScript = `#!/usr/bin/perl
read(STDIN, my $body, $ENV{CONTENT_LENGTH} || 0);
print STDERR "the script complains\n";
if ($ENV{PATH_INFO} eq '/gone') { print "Status: 410 Gone\nContent-Type: text/plain\n\ngone\n"; exit }
if ($ENV{PATH_INFO} eq '/away') { print "Location: https://other.test/\n\n"; exit }
print "Content-Type: text/plain\n\n", scalar(getpwuid($<)), " $ENV{REMOTE_ADDR} $ENV{SERVER_NAME} $ENV{REQUEST_METHOD} $ENV{REQUEST_URI} [$body] [$ENV{HTTP_PROXY}$ENV{HTTP_X_EVIL}] $ENV{MODE}\n";
`

func TestACGIProgramServes(t *testing.T) {
	m := install(t)
	if err := os.WriteFile(filepath.Join(m.folder, "form.pl"), []byte(cgiScript), 0o755); err != nil {
		t.Fatal(err)
	}
	m.Run("useradd --system form && cp " + m.folder + "/form.pl /opt/form.pl && " + program + " app add form --cgi --user form --env MODE=live --exec /opt/form.pl && " + program + " upstreams set v1 cgi:form")
	want := "form 127.0.0.5 shop.test POST /a/b?c=d [body] [] live"
	m.Eventually(10*time.Second, "the program's answer", func() bool { return strings.HasPrefix(m.get("http://shop.test/"), "form ") })
	if got := m.get("--interface 127.0.0.5 -H 'Proxy: http://evil.test' -H 'X_Evil: evil' -d body 'http://shop.test/a/b?c=d'"); got != want {
		t.Errorf("got %q", got)
	}
	for path, want := range map[string]string{"/gone": "410 ", "/away": "302 https://other.test/"} {
		if got := m.Run("curl -s -o /dev/null -w '%{http_code} %header{location}' --max-time 20 http://shop.test" + path); !strings.HasPrefix(got, strings.TrimSpace(want)) {
			t.Errorf("%s: %q", path, got)
		}
	}
	m.Eventually(10*time.Second, "complaint in the journal", func() bool {
		return strings.Contains(m.Run("journalctl -o cat --no-pager -u 'cutover-app@form:a.service'"), "the script complains")
	})
	next := strings.Replace(cgiScript, "scalar", "'new ', scalar", 1)
	if err := os.WriteFile(filepath.Join(m.folder, "next.pl"), []byte(next), 0o755); err != nil {
		t.Fatal(err)
	}
	m.Run(program + " app deploy form " + m.folder + "/next.pl")
	if got := m.get("http://shop.test/"); !strings.HasPrefix(got, "new form") {
		t.Errorf("after a deploy: %q", got)
	}
}

func TestThePageOfManagedProgramsWorksAsWritten(t *testing.T) {
	m := install(t)
	m.Run("mkdir -p /opt/shop /usr/lib/cgi-bin && cp " + m.executable("shop", "E2E_APP=http") + " /opt/shop/shop && cp " + m.executable("new", "E2E_APP=http") + " /root/shop-new")
	m.Run("printf '#!/bin/sh\\nprintf \"Content-Type: text/plain\\\\n\\\\nform\"\\n' >/usr/lib/cgi-bin/form.pl && chmod 755 /usr/lib/cgi-bin/form.pl")
	said := m.followPage("apps.md")
	for _, want := range []string{"app:shop", "serves. To go back", "/opt/shop/shop serves", "form runs, process"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in:\n%s", want, said)
		}
	}
	m.expectProgram("shop")
	m.Run(program + " rules set shop.test --percent 100")
	m.Eventually(10*time.Second, "the CGI program's answer", func() bool { return m.get("http://shop.test/") == "form" })
}
