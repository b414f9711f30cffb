package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the program: scripts and tests call it as "cutover".
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cutover": main})
}

// TestScripts runs the stories in testdata/script. They are the manual of the command line: what is in them works.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUpScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve":   scriptServe,
			"backend": scriptBackend,
			"get":     scriptGet,
			"holds":   scriptHolds,
			"foreign": scriptForeign,
			"account": scriptAccount,
			"port":    scriptPort,
		},
	})
}

// setUpScript gives a story folders of its own and an empty configuration.
func setUpScript(env *testscript.Env) error {
	state, runtime := filepath.Join(env.WorkDir, "state"), filepath.Join(env.WorkDir, "run")
	config := filepath.Join(env.WorkDir, "cutover.toml")
	env.Setenv("CUTOVER_STATE_DIR", state)
	env.Setenv("CUTOVER_RUNTIME_DIR", runtime)
	env.Setenv("CUTOVER_CONFIG", config)
	env.Setenv("CUTOVER_ACME_ISSUER", "off")
	env.Setenv("GORACE", "atexit_sleep_ms=0") // a program with the race detector else lingers for a second
	return errors.Join(os.Mkdir(state, 0o700), os.Mkdir(runtime, 0o700), os.WriteFile(config, nil, 0o600))
}

// scriptServe starts the daemon on sockets as systemd would hand them over, and waits until it answers. It ends with
// the story. HTTP is then the address of the clear-text socket.
func scriptServe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: serve")
	}
	listener := listen(ts)
	file, err := listener.File()
	ts.Check(err)
	ts.Check(listener.Close())
	// LISTEN_PID must be the process's own id, which only the process that becomes it knows.
	command := exec.Command("sh", "-c", "LISTEN_PID=$$ exec cutover serve")
	command.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=http")
	for _, name := range []string{"CUTOVER_STATE_DIR", "CUTOVER_RUNTIME_DIR", "CUTOVER_CONFIG", "CUTOVER_ACME_ISSUER", "CUTOVER_ACME_DIRECTORY"} {
		command.Env = append(command.Env, name+"="+ts.Getenv(name))
	}
	command.ExtraFiles = []*os.File{file}
	log, err := os.Create(filepath.Join(ts.Getenv("WORK"), "daemon.log"))
	ts.Check(err)
	command.Stderr = log
	ts.Check(command.Start())
	ts.Defer(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
		_ = errors.Join(file.Close(), log.Close())
		ts.Logf("daemon: %v\n%s", command.ProcessState, ts.ReadFile("daemon.log"))
	})
	ts.Setenv("HTTP", listener.Addr().String())
	ts.Check(waitForSocket(filepath.Join(ts.Getenv("CUTOVER_RUNTIME_DIR"), "admin.sock")))
}

func listen(ts *testscript.TestScript) *net.TCPListener {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	ts.Check(err)
	return listener
}

func waitForSocket(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		running, err := answers(ctx, path)
		if running || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("nobody answers at %s: %w", path, ctx.Err())
		}
	}
}

// scriptBackend serves HTTP on loopback: each answer is the word given. A variable gets its address.
func scriptBackend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: backend VARIABLE WORD")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, args[1]) }))
	ts.Defer(server.Close)
	ts.Setenv(args[0], server.URL)
}

// scriptGet makes a request to the daemon as a visitor would, and compares status and body with what is wanted. The last
// argument, which may be missing, is what the visitor accepts.
func scriptGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: get HOST/PATH STATUS BODY [ACCEPT]")
	}
	host, path, _ := strings.Cut(args[0], "/")
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+ts.Getenv("HTTP")+"/"+path, nil)
	ts.Check(err)
	request.Host = host
	if len(args) == 4 {
		request.Header.Set("Accept", args[3])
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	ts.Check(err)
	body, err := io.ReadAll(response.Body)
	ts.Check(errors.Join(err, response.Body.Close()))
	if strconv.Itoa(response.StatusCode) != args[1] || !strings.Contains(string(body), args[2]) {
		ts.Fatalf("got %d %s", response.StatusCode, body)
	}
}

// scriptHolds opens the rules as a process would that does not answer on the admin socket.
func scriptHolds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: holds")
	}
	s, err := openRules(context.Background(), Config{StateDir: ts.Getenv("CUTOVER_STATE_DIR")})
	ts.Check(err)
	ts.Defer(func() { ts.Check(s.close()) })
}
