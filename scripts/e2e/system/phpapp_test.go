package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// adminerIndex lets Debian's Adminer open a SQLite file for whoever knows the password.
const adminerIndex = `<?php
function adminer_object() {
  include_once './plugins/plugin.php';
  include_once './plugins/login-password-less.php';
  return new AdminerPlugin([new AdminerLoginPasswordLess(password_hash('secret', PASSWORD_DEFAULT))]);
}
include './adminer.php';
`

const adminerPool = `[global]
error_log = /var/log/php-fpm.log
daemonize = no
[adminer]
user = www-data
group = www-data
listen = /run/adminer.sock
listen.group = cutover
listen.mode = 0660
pm = static
pm.max_children = 4
`

// adminer starts Adminer by php-fpm, both as their packages have them: a database with a table, and sessions that need a login.
func (m *machine) adminer(packages string) {
	m.t.Helper()
	for name, text := range map[string]string{"adminer.conf": adminerPool, "adminer-index.php": adminerIndex} {
		if err := os.WriteFile(filepath.Join(m.folder, name), []byte(text), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	m.Run("mkdir -p /srv/adminer /srv/data && install -d -m 1733 /var/lib/php/sessions && cp -r " + packages + "/usr/share/adminer/. /srv/adminer/ && cp " + m.folder + "/adminer-index.php /srv/adminer/index.php && " +
		"cp " + m.folder + "/adminer.conf /etc/adminer.conf && sqlite3 /srv/data/shop.db 'CREATE TABLE oranges(id INTEGER)' && chown -R www-data /srv/data && " +
		"cp " + packages + "/usr/sbin/php-fpm* /opt/php-fpm && cp -r " + packages + "/usr/lib/php/2* /opt/php-modules")
	m.Start(nil, "/opt/php-fpm", "-n", "-d", "extension_dir=/opt/php-modules", "-d", "extension=pdo", "-d", "extension=pdo_sqlite", "-d", "extension=sqlite3", "-d", "extension=ctype",
		"-F", "-y", "/etc/adminer.conf")
	m.Eventually(20*time.Second, "php-fpm's socket", func() bool {
		_, err := m.Try("test -S /run/adminer.sock")
		return err == nil
	})
}

// member is a visitor who keeps his cookies, and has an address of his own: by that he is told apart before he has one.
type member struct {
	m            *machine
	jar, address string
	chosen       bool // to be v2's at 10 %
}

func (v *member) asks(arguments string) string {
	v.m.t.Helper()
	return v.m.get("--fail-with-body --cacert /var/lib/cutover/certs/local/root.pem --location --interface " + v.address + " -b " + v.jar + " -c " + v.jar + " " + arguments)
}

const adminerDatabase = "https://shop.test/?sqlite=&username=admin&db=%2Fsrv%2Fdata%2Fshop.db"

// logsIn opens the database as a browser does: the form's page first.
func (v *member) logsIn() {
	v.m.t.Helper()
	if page := v.asks("https://shop.test/"); !strings.Contains(page, "auth[password]") {
		v.m.t.Fatalf("there is no form to log in with: %.2000s", page)
	}
	page := v.asks("-d 'auth[driver]=sqlite' -d 'auth[server]=' -d 'auth[username]=admin' -d 'auth[password]=secret' -d 'auth[db]=/srv/data/shop.db' https://shop.test/")
	if !strings.Contains(page, "oranges") {
		v.m.t.Fatalf("the login shows no table: %.2000s", page)
	}
}

// version is which one answers a visitor's request.
func (v *member) version() string {
	v.m.t.Helper()
	switch page := v.asks("'" + adminerDatabase + "'"); {
	case strings.HasPrefix(page, "v2:"):
		return "v2"
	case strings.Contains(page, "oranges") && strings.Contains(page, "logout"):
		return "v1, logged in"
	case strings.Contains(page, "auth[password]"):
		return "v1, logged out"
	default:
		return page
	}
}

// A PHP application of the distribution's is v1, a service in Go is v2: the story of a new user.
func TestAPHPApplicationGivesWayToAServiceInGoAndComesBackWithItsSessions(t *testing.T) {
	packages := fromTest(t, "PHP_APP")
	m := install(t, packages)
	m.configure("[acme]\nissuer = \"local\"\n")
	m.adminer(packages)
	m.Run("cutover upstreams set v1 fcgi+unix:/run/adminer.sock --fcgi-root /srv/adminer && cutover rules set shop.test && systemctl restart cutover.service")
	members := m.membersOf(3)
	for _, v := range members {
		v.logsIn()
	}
	for _, step := range []struct {
		percent          string
		chosen, unchosen string
	}{{"10", "v2", "v1, logged in"}, {"100", "v2", "v2"}, {"0", "v1, logged in", "v1, logged in"}} {
		m.Run("cutover rules set shop.test --percent " + step.percent)
		for _, v := range members {
			want := step.unchosen
			if v.chosen {
				want = step.chosen
			}
			for range 2 {
				if got := v.version(); got != want {
					t.Errorf("at %s %%, %s meets %q, want %q", step.percent, v.address, got, want)
				}
			}
		}
	}
}

// membersOf finds so many addresses that v2 gets at 10 %, and as many that it does not get; then all is v1's again.
func (m *machine) membersOf(each int) (members []*member) {
	m.t.Helper()
	m.Run("cutover rules set shop.test --percent 10")
	lines := m.Run("for n in $(seq 1 200); do echo 127.0.1.$n $(curl -sk --max-time 20 --interface 127.0.1.$n https://shop.test/ | head -c 3 | tr -d '\\n<'); done")
	m.Run("cutover rules set shop.test --percent 0")
	found := map[bool]int{}
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		chosen := len(fields) > 1 && fields[1] == "v2:"
		if found[chosen]++; found[chosen] <= each {
			members = append(members, &member{m, "/root/jar-" + fields[0], fields[0], chosen})
		}
	}
	if found[true] < each || found[true] > 60 {
		m.t.Fatalf("at 10 %%, %d of 200 addresses are v2's:\n%s", found[true], lines)
	}
	return members
}
