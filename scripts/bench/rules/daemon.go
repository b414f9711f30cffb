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
	"syscall"
	"time"
)

// targets are the services behind: each says its name.
type targets struct{ v1, v2 *httptest.Server }

func startTargets() *targets {
	says := func(text string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
	}
	return &targets{says("v1"), says("v2")}
}

func (t *targets) close() {
	t.v1.Close()
	t.v2.Close()
}

// daemon is a running cutover, on a socket that was made for it.
type daemon struct {
	*exec.Cmd
	dir, address string
	client       *http.Client
	firstAnswer  time.Duration // from exec to the first proxied answer
}

// startDaemon starts cutover on a state directory and waits for its first answer for host. Only its own process is ended.
func (b *bench) startDaemon(ctx context.Context, dir, host string) (*daemon, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }() // the child has its own
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	d := &daemon{dir: dir, address: listener.Addr().String(), client: &http.Client{Timeout: time.Minute}}
	d.Cmd = exec.CommandContext(ctx, "sh", "-c", `LISTEN_PID=$$ exec "$0" serve`, b.binary)
	d.Env = append(os.Environ(), environment(dir)...)
	d.Env = append(d.Env, "LISTEN_FDS=1", "LISTEN_FDNAMES=http")
	d.ExtraFiles = []*os.File{file}
	logs, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = logs.Close() }()
	d.Stderr = logs
	began := time.Now()
	if err := d.Start(); err != nil {
		return nil, err
	}
	if _, err := d.ask(ctx, host); err != nil {
		text, _ := os.ReadFile(logs.Name())
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, text), d.kill())
	}
	d.firstAnswer = time.Since(began)
	return d, nil
}

// environment is how cutover and its command line find each other.
func environment(dir string) []string {
	return []string{
		"CUTOVER_STATE_DIR=" + dir, "CUTOVER_RUNTIME_DIR=" + dir, "CUTOVER_ACME_ISSUER=off", "CUTOVER_ACCESS_LOG=off", "CUTOVER_CONFIG=",
	}
}

// ask returns which version answers for a host.
func (d *daemon) ask(ctx context.Context, host string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.address+"/", nil)
	if err != nil {
		return "", err
	}
	r.Host = host
	answer, err := d.client.Do(r)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", host, answer.Status)
	}
	return string(text), err
}

// kill ends the process as a crash does: it writes nothing any more.
func (d *daemon) kill() error {
	_ = d.Process.Kill()
	_ = d.Wait() // it says that it was killed
	d.client.CloseIdleConnections()
	return nil
}

// stop ends the process in order: the snapshot is written.
func (d *daemon) stop() error {
	d.client.CloseIdleConnections()
	return errors.Join(d.Process.Signal(syscall.SIGTERM), d.Wait())
}
