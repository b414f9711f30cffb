package fastcgi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// phpProgram finds php-fpm, whose name has its version on Debian: an installed one, or the one that scripts/test.sh unpacks.
func phpProgram(t *testing.T) string {
	t.Helper()
	for _, pattern := range []string{"/usr/sbin/php-fpm*", "/usr/local/sbin/php-fpm*", "../../.dev/php/usr/sbin/php-fpm*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			program, err := filepath.Abs(found[len(found)-1])
			if err != nil {
				t.Fatal(err)
			}
			return program
		}
	}
	t.Fatal("php-fpm is not here: run scripts/test.sh unit, which unpacks it to .dev/php, or apt-get install php-fpm")
	return ""
}

// servePHP runs php-fpm with a number of workers for the scripts below root.
func servePHP(t *testing.T, workers int, root string, change func(*Config)) *Transport {
	t.Helper()
	folder := t.TempDir()
	socket, config := filepath.Join(folder, "php.sock"), filepath.Join(folder, "fpm.conf")
	text := fmt.Sprintf(`[global]
error_log = %[1]s/fpm.log
daemonize = no
[www]
listen = %[2]s
pm = static
pm.max_children = %[3]d
catch_workers_output = yes
security.limit_extensions =
php_admin_value[cgi.fix_pathinfo] = 1
`, folder, socket, workers) // what attackers hope for: every file runs, and names are searched upwards
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, phpProgram(t), "-n", "-F", "-R", "-y", config)
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) } // its workers end as well
	command.WaitDelay = patience
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		if log, _ := os.ReadFile(filepath.Join(folder, "fpm.log")); t.Failed() {
			t.Logf("php-fpm said:\n%s%s", said.String(), log)
		}
	})
	waitFor(t, func() bool {
		select {
		case <-ended:
			t.Fatalf("php-fpm ended:\n%s", said.String())
		default:
		}
		c, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	c := Config{Network: "unix", Address: socket, Root: root, Runs: LocalFiles(root, nil), MaxIdle: workers, IdleTimeout: time.Hour}
	if change != nil {
		change(&c)
	}
	transport, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func writeScript(t *testing.T, root, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, name), []byte("<?php "+text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPHPSeesTheVisitorsRequest(t *testing.T) {
	root := site(t, "other.php")
	writeScript(t, root, "index.php", `header('Content-Type: application/json'); header('X-One: 1'); setcookie('a', '1'); setcookie('b', '2');
		http_response_code(201);
		echo json_encode(['server' => $_SERVER, 'get' => $_GET, 'cookie' => $_COOKIE, 'body' => file_get_contents('php://input')]);`)
	transport := servePHP(t, 1, root, func(c *Config) { c.Front = "/index.php" })
	for _, name := range []string{"a new connection", "a kept one"} {
		r := newRequest(t, http.MethodPost, "/index.php/a%2fb/c?x=1&y[]=2", strings.NewReader("the body"))
		r.Header = http.Header{"Cookie": {"u=1", "v=2"}, "Proxy": {"evil"}, "Remote-User": {"good"}, "Remote_User": {"evil"}, "Remote.User": {"evil"}, "Content-Type": {"text/plain"}}
		response, text, err := roundTrip(t, transport, r)
		if err != nil || response.StatusCode != http.StatusCreated || len(response.Header["Set-Cookie"]) != 2 || response.Header.Get("X-One") != "1" {
			t.Fatalf("%s: %+v, %v", name, response, err)
		}
		var got struct {
			Server, Cookie map[string]any
			Get            map[string]any
			Body           string
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if got.Body != "the body" || got.Cookie["u"] != "1" || got.Cookie["v"] != "2" || got.Get["x"] != "1" {
			t.Errorf("%s: %s", name, text)
		}
		for variable, want := range map[string]any{
			"REQUEST_URI": "/index.php/a%2fb/c?x=1&y[]=2", "SCRIPT_NAME": "/index.php", "SCRIPT_FILENAME": root + "/index.php", "PHP_SELF": "/index.php",
			"REMOTE_ADDR": "192.0.2.7", "CONTENT_LENGTH": "8", "HTTP_REMOTE_USER": "good", "DOCUMENT_ROOT": root, "REQUEST_METHOD": "POST",
		} {
			if got.Server[variable] != want {
				t.Errorf("%s: %s is %v, not %v", name, variable, got.Server[variable], want)
			}
		}
		if strings.Contains(text, "evil") {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestPHPRunsNothingButScripts(t *testing.T) {
	root := site(t, "index.php", "shop/index.php", "info.php", "uploads/cat.jpg")
	transport := servePHP(t, 1, root, nil)
	for path, want := range map[string]string{
		"/":                         "this is index.php",
		"/shop/":                    "this is shop/index.php",
		"/info.php/path/x.php":      "this is info.php",
		"/uploads/cat.jpg":          "There is no script for this path.\n",
		"/uploads/cat.jpg/x.php":    "There is no script for this path.\n",
		"/uploads/cat.jpg/info.php": "There is no script for this path.\n",
		"/uploads/cat.jpg%00x.php":  "The path of the request cannot be forwarded.\n",
		"/shop/../info.php":         "The path of the request cannot be forwarded.\n",
	} {
		if _, text := get(t, transport, path); text != want {
			t.Errorf("%s: %q, not %q", path, text, want)
		}
	}
	open := servePHP(t, 1, root, func(c *Config) { c.Runs = func(string) bool { return true } })
	if _, text := get(t, open, "/uploads/cat.jpg/x.php"); text != "this is uploads/cat.jpg" {
		t.Errorf("php-fpm no longer does what Runs is there for: %q", text)
	}
}

func TestPHPKeepsItsConnectionAndItsWorkersWhateverVisitorsDo(t *testing.T) {
	root := t.TempDir()
	writeScript(t, root, "index.php", `
		if (isset($_GET['sleep'])) { echo "start\n"; flush(); while (true) { usleep(1000); echo "x"; flush(); } }
		error_log("a line"); echo getmypid(), ' ', strlen(file_get_contents('php://input'));`)
	said := make(chan string, 100)
	transport := servePHP(t, 1, root, func(c *Config) { c.Stderr = func(_ context.Context, line string) { said <- line } })
	_, first := get(t, transport, "/")
	if line := receive(t, said); !strings.Contains(line, "a line") {
		t.Errorf("standard error: %q", line)
	}

	response, err := transport.RoundTrip(newRequest(t, http.MethodGet, "/?sleep", nil)) // a visitor who leaves in the middle
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	broken := newRequest(t, http.MethodPost, "/", io.MultiReader(strings.NewReader("half"), failing{io.ErrUnexpectedEOF}))
	broken.ContentLength = 1 << 20 // another whose body breaks off
	if _, _, err := roundTrip(t, transport, broken); err == nil {
		t.Error("half a body is taken")
	}
	large := newRequest(t, http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 1<<20)))
	_, text, err := roundTrip(t, transport, large)
	if want := strings.Replace(first, " 0", " 1048576", 1); err != nil || text != want {
		t.Errorf("%q, not %q: %v", text, want, err)
	}
	waitFor(t, func() bool { return transport.idle() == 1 })
	head, text, err := roundTrip(t, transport, newRequest(t, http.MethodHead, "/", nil))
	if err != nil || head.StatusCode != http.StatusOK || text != "" {
		t.Errorf("HEAD: %q, %v", text, err)
	}
}

func TestPHPThatDiesIsAnErrorAndComesBack(t *testing.T) {
	root := t.TempDir()
	writeScript(t, root, "index.php", `echo 'well';`)
	writeScript(t, root, "kill.php", `echo str_repeat('x', 100000); flush(); exec('kill -9 ' . getmypid());`)
	transport := servePHP(t, 1, root, nil)
	get(t, transport, "/")
	if _, text, err := roundTrip(t, transport, newRequest(t, http.MethodGet, "/kill.php", nil)); err == nil {
		t.Errorf("%d bytes are taken for the whole", len(text))
	}
	if _, text := get(t, transport, "/"); text != "well" {
		t.Errorf("afterwards: %q", text)
	}
}

func TestPHPThatIsRestartedMissesNoRequestThatMayBeRepeated(t *testing.T) {
	root := t.TempDir()
	writeScript(t, root, "index.php", `echo getmypid();`)
	transport := servePHP(t, 1, root, nil)
	_, before := get(t, transport, "/")
	var pid int
	if _, err := fmt.Sscan(before, &pid); err != nil {
		t.Fatal(err)
	}
	worker, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, after := get(t, transport, "/"); after == before {
		t.Error("the worker is the same")
	}
}
