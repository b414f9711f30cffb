package system

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// phpPool is a pool of php-fpm as its package makes one, but that Cutover may connect to it, which runs whatever it is told to:
// what attackers hope for.
const phpPool = `[global]
error_log = /var/log/php-fpm.log
daemonize = no
[shop]
user = www-data
group = www-data
listen = /run/shop.sock
listen.group = cutover
listen.mode = 0660
pm = static
pm.max_children = 2
pm.max_requests = 1000
ping.path = /ping
security.limit_extensions =
php_admin_value[upload_max_filesize] = 8M
php_admin_flag[log_errors] = on
`

// told is a PHP script that says what it was told.
const told = `<?php
if (isset($_GET['slow'])) { sleep(1); }
if (isset($_GET['complain'])) { error_log('something is wrong here'); }
header('Content-Type: application/json');
echo json_encode([
  'script' => $_SERVER['SCRIPT_NAME'], 'info' => $_SERVER['PATH_INFO'] ?? '', 'uri' => $_SERVER['REQUEST_URI'], 'https' => $_SERVER['HTTPS'] ?? '',
  'remote' => $_SERVER['REMOTE_ADDR'], 'port' => $_SERVER['SERVER_PORT'], 'name' => $_SERVER['SERVER_NAME'], 'all' => json_encode($_SERVER),
  'file' => isset($_FILES['file']) ? md5_file($_FILES['file']['tmp_name']) : '', 'env' => $_SERVER['APP_ENV'] ?? '',
]);
`

type tellsPHP struct{ Script, Info, URI, HTTPS, Remote, Port, Name, All, File, Env string }

// php starts php-fpm for a site in /srv/shop.
func (m *machine) php() {
	m.t.Helper()
	program := filepath.Join(m.folder, "php-fpm")
	copyFile(m.t, fromTest(m.t, "PHP_FPM"), program)
	for name, text := range map[string]string{"pool.conf": phpPool, "index.php": told, "cat.jpg": "<?php echo 'the picture ran';"} {
		if err := os.WriteFile(filepath.Join(m.folder, name), []byte(text), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	m.Run("mkdir -p /srv/shop/public/admin /srv/shop/public/uploads && cd " + m.folder + " && cp pool.conf /etc/shop.conf && cp cat.jpg /srv/shop/public/uploads/ && " +
		"cp index.php /srv/shop/public/ && cp index.php /srv/shop/public/page.php && cp index.php /srv/shop/public/admin/index.php")
	m.Start(nil, program, "-n", "-F", "-y", "/etc/shop.conf")
	m.Eventually(20*time.Second, "php-fpm's socket", func() bool {
		_, err := m.Try("test -S /run/shop.sock")
		return err == nil
	})
}

// asksPHP asks shop.test and returns what PHP was told.
func (m *machine) asksPHP(arguments string) (told tellsPHP) {
	m.t.Helper()
	if answer := m.get("--fail --cacert /var/lib/cutover/certs/local/root.pem " + arguments); json.Unmarshal([]byte(answer), &told) != nil {
		m.t.Fatalf("curl %s got %q", arguments, answer)
	}
	return told
}

func TestASiteInPHPIsServedByPHPAloneAndNothingButItsScriptsRuns(t *testing.T) {
	m := install(t)
	m.configure("[acme]\nissuer = \"local\"\n")
	m.php()
	m.Run("/opt/cutover/cutover upstreams set v1 fcgi+unix:/run/shop.sock --fcgi-root /srv/shop/public --fcgi-keep 1 --fcgi-params '{\"APP_ENV\":\"live\"}' --check-path /ping --check-interval 1")
	m.Run("/opt/cutover/cutover rules set shop.test && systemctl restart cutover.service")

	t.Run("a page, its path info and whence the visitor comes", func(t *testing.T) {
		got := m.asksPHP("--interface 127.0.0.7 'https://shop.test/page.php/a/b%20c?d=1'")
		want := tellsPHP{Script: "/page.php", Info: "/a/b c", URI: "/page.php/a/b%20c?d=1", HTTPS: "on", Remote: "127.0.0.7", Port: "443", Name: "shop.test", Env: "live"}
		if got.All = ""; got != want {
			t.Errorf("got %+v", got)
		}
		if got := m.asksPHP("http://shop.test/"); got.HTTPS != "" || got.Port != "80" || got.Script != "/index.php" {
			t.Errorf("in clear text: %+v", got)
		}
		if got := m.asksPHP("--location http://shop.test/admin"); got.Script != "/admin/index.php" || got.URI != "/admin/" {
			t.Errorf("a folder: %+v", got)
		}
	})
	t.Run("names of header fields that look like others", func(t *testing.T) {
		got := m.asksPHP("-H 'Proxy: evil' -H 'X_Forwarded_For: evil' -H 'Remote_User: evil' -H 'X-Good: good' -H 'X-Forwarded-For: evil' https://shop.test/")
		if strings.Contains(got.All, "evil") || !strings.Contains(got.All, "good") || got.Remote != "127.0.0.1" {
			t.Errorf("PHP was told %s", got.All)
		}
	})
	t.Run("an upload", func(t *testing.T) {
		sum := m.Run("head -c 5000000 /dev/urandom >/root/upload && md5sum </root/upload | cut -d' ' -f1")
		for _, how := range []string{"", "-H 'Transfer-Encoding: chunked' --http1.1", "--http2"} {
			if got := m.asksPHP("-F file=@/root/upload " + how + " https://shop.test/page.php"); got.File != sum {
				t.Errorf("%s: the sum is %q, not %q", how, got.File, sum)
			}
		}
	})
	t.Run("what is no script", func(t *testing.T) {
		for path, status := range map[string]string{"/uploads/cat.jpg": "404", "/uploads/cat.jpg/x.php": "404", "/uploads/cat.jpg%00.php": "400", "/none.php": "404", "/none": "404", "/../../etc/passwd": "400"} {
			if got := m.get("--path-as-is -w '%{http_code}' http://shop.test" + path); !strings.HasSuffix(got, status) || strings.Contains(got, "ran") {
				t.Errorf("%s: %q", path, got)
			}
		}
	})
	t.Run("what PHP complains of is in the journal", func(t *testing.T) {
		m.asksPHP("'https://shop.test/?complain'")
		m.Eventually(20*time.Second, "the complaint", func() bool {
			return strings.Contains(m.Run("journalctl -u cutover.service | grep -c 'something is wrong here' || true"), "1")
		})
	})
	t.Run("a front controller", func(t *testing.T) {
		m.Run("/opt/cutover/cutover upstreams set v1 --fcgi-front /index.php")
		m.Eventually(10*time.Second, "the change", func() bool {
			_, err := m.Try("curl -sS --fail http://shop.test/blog/a-post")
			return err == nil
		})
		for path, script := range map[string]string{"/blog/a-post?p=1": "/index.php", "/uploads/cat.jpg/x.php": "/index.php", "/page.php": "/page.php", "/none.php": "/index.php"} {
			if got := m.asksPHP("'http://shop.test" + path + "'"); got.Script != script || got.URI != path {
				t.Errorf("%s: %+v", path, got)
			}
		}
	})
	t.Run("its check", func(t *testing.T) {
		m.Run("/opt/cutover/cutover upstreams set v1 --fcgi-front '' --check-path /none.php")
		failing := func() bool { return strings.Contains(m.Run("/opt/cutover/cutover status"), "none.php") }
		m.Eventually(30*time.Second, "a bad check", failing)
		m.Run("/opt/cutover/cutover upstreams set v1 --check-path /ping")
		m.Eventually(30*time.Second, "the end of it", func() bool { return !failing() })
	})
}

func TestVisitorsWhoUploadSlowlyLeavePHPsWorkersToOthers(t *testing.T) {
	m := install(t)
	m.php() // with two workers
	m.Run("/opt/cutover/cutover upstreams set v1 fcgi+unix:/run/shop.sock --fcgi-root /srv/shop/public")
	m.Run("head -c 200000 /dev/zero >/root/upload; for n in 1 2 3 4 5; do nohup curl -sS --limit-rate 5000 -F file=@/root/upload http://shop.test/page.php >/dev/null 2>&1 & done")
	uploads := func() string {
		return m.Run("ss -Htn state established '( sport = :80 )' | awk '{n++} END {print n+0}'")
	}
	m.Eventually(20*time.Second, "five uploads under way", func() bool {
		return uploads() == "5"
	})
	for range 3 {
		m.asksPHP("--max-time 5 http://shop.test/")
	}
	if got := uploads(); got != "5" {
		t.Errorf("%s uploads are under way at the end", got)
	}
}
