// Package kinds puts targets of every kind behind the real program, on real sockets, and asks for all that each can carry.
package kinds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is the cutover under test, built once.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cutover-kinds-*")
	if err == nil {
		program = filepath.Join(dir, "cutover")
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func build() error {
	command := exec.Command("go", "build", "-tags", "netgo,osusergo,sqlite_omit_load_extension", "-o", program, "./cmd/cutover")
	command.Dir = "../../.."
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("the program cannot be built: %w\n%s", err, said)
	}
	return nil
}

// host is what visitors ask for.
const host = "kinds.test"

// patience bounds every wait.
const patience = time.Minute

// edge is a running cutover.
type edge struct {
	t             *testing.T
	dir           string
	plain, secure string // where it listens
	roots         *x509.CertPool
}

// start runs cutover until the test ends; host is led to a target.
func start(t *testing.T, target string, settings ...string) *edge {
	t.Helper()
	e := &edge{t: t, dir: t.TempDir(), roots: x509.NewCertPool()}
	e.run(t)
	e.lead(t, target, settings...)
	return e
}

// lead leads host to a target.
func (e *edge) lead(t *testing.T, target string, settings ...string) {
	t.Helper()
	e.say(append([]string{"upstreams", "set", "v1", target}, settings...)...)
	e.say("rules", "set", host)
	e.trust(t)
}

func (e *edge) run(t *testing.T) {
	t.Helper()
	command := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" serve`, program)
	command.Env = append(e.environment(), "LISTEN_FDS=2", "LISTEN_FDNAMES=http:https")
	for _, address := range []*string{&e.plain, &e.secure} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		*address = listener.Addr().String()
		file, err := listener.(*net.TCPListener).File()
		if err = errors.Join(err, listener.Close()); err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		command.ExtraFiles = append(command.ExtraFiles, file)
	}
	logs, err := os.Create(filepath.Join(e.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	command.Stderr = logs
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(logs.Name())
			t.Logf("cutover says:\n%s", text)
		}
	})
	e.eventually("the daemon", e.answers)
}

// answers reports whether the daemon does.
func (e *edge) answers() bool {
	c, err := net.Dial("unix", filepath.Join(e.dir, "admin.sock"))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

func (e *edge) eventually(what string, is func() bool) {
	e.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(e.dir, "log"))
			e.t.Fatalf("waited in vain for %s\n%s", what, text)
		}
	}
}

func (e *edge) environment() []string {
	return append(os.Environ(), "CUTOVER_STATE_DIR="+e.dir, "CUTOVER_RUNTIME_DIR="+e.dir, "CUTOVER_ACME_ISSUER=local", "CUTOVER_CONFIG=",
		"SSL_CERT_FILE="+filepath.Join(e.dir, "system.pem"))
}

// say runs a command line of cutover's.
func (e *edge) say(arguments ...string) {
	e.t.Helper()
	command := exec.Command(program, arguments...)
	command.Env = e.environment()
	if said, err := command.CombinedOutput(); err != nil {
		e.t.Fatalf("cutover %s: %v\n%s", strings.Join(arguments, " "), err, said)
	}
}

// trust waits for the certificate of host.
func (e *edge) trust(t *testing.T) {
	t.Helper()
	e.eventually("a certificate", func() bool {
		c, err := tls.Dial("tcp", e.secure, &tls.Config{ServerName: host, InsecureSkipVerify: true})
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	text, err := os.ReadFile(filepath.Join(e.dir, "certs/local/root.pem"))
	if err != nil || !e.roots.AppendCertsFromPEM(text) {
		t.Fatalf("the local root: %v", err)
	}
}

// visitor is a client of a kind.
type visitor struct {
	name   string
	scheme string
	major  int
	client *http.Client
}

// visitors are one with HTTP/1.1 in clear text, and one with HTTP/2 over TLS.
func (e *edge) visitors(t *testing.T) []visitor {
	t.Helper()
	make1 := func(name, scheme string, major int, address string) visitor {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(major == 1)
		protocols.SetHTTP2(major == 2)
		transport := &http.Transport{
			Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: e.roots}, DisableCompression: true, ExpectContinueTimeout: patience,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", address)
			},
		}
		t.Cleanup(transport.CloseIdleConnections)
		return visitor{name, scheme, major, &http.Client{Transport: transport, Timeout: patience}}
	}
	return []visitor{make1("by HTTP/1.1", "http", 1, e.plain), make1("by HTTP/2", "https", 2, e.secure)}
}
