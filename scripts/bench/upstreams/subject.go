package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// subject is a running cutover, on sockets that were made for it.
type subject struct {
	command       *exec.Cmd
	binary, dir   string
	plain, secure string // where it listens
	admin         *http.Client
}

// patience bounds every wait for something that takes a moment.
const patience = time.Minute

// startSubject starts cutover with a state directory and waits until it is ready. The caller stops it.
func startSubject(ctx context.Context, binary, dir string) (*subject, error) {
	if err := (network{}).up(ctx); err != nil {
		return nil, err
	}
	s := &subject{binary: binary, dir: dir}
	s.admin = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "admin.sock"))
		},
	}}
	s.command = exec.CommandContext(ctx, "sh", "-c", `LISTEN_PID=$$ exec "$0" serve`, binary)
	s.command.Cancel = func() error { return s.command.Process.Signal(syscall.SIGTERM) }
	s.command.WaitDelay = 10 * time.Second
	s.command.Env = append(s.environment(), "LISTEN_FDS=2", "LISTEN_FDNAMES=http:https")
	for _, address := range []*string{&s.plain, &s.secure} {
		file, at, err := listen()
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // the child has its own
		*address = at
		s.command.ExtraFiles = append(s.command.ExtraFiles, file)
	}
	logs, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = logs.Close() }() // the child has its own
	s.command.Stderr = logs
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	if err := s.untilReady(ctx); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

func listen() (*os.File, string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = listener.Close() }() // the file is a copy
	file, err := listener.(*net.TCPListener).File()
	return file, listener.Addr().String(), err
}

func (s *subject) environment() []string {
	return append(os.Environ(), "CUTOVER_STATE_DIR="+s.dir, "CUTOVER_RUNTIME_DIR="+s.dir, "CUTOVER_ACME_ISSUER=local", "CUTOVER_ACCESS_LOG=off", "CUTOVER_CONFIG=")
}

// say runs a command line of cutover's.
func (s *subject) say(ctx context.Context, arguments ...string) error {
	command := exec.CommandContext(ctx, s.binary, arguments...)
	command.Env = s.environment()
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("cutover %s: %w\n%s", strings.Join(arguments, " "), err, said)
	}
	return nil
}

func (s *subject) untilReady(ctx context.Context) error {
	err := s.eventually(ctx, func() error {
		answer, err := s.ask(ctx, "/healthz") // the command line would take the rules into its own hands
		if err == nil {
			err = answer.Body.Close()
		}
		return err
	})
	if err != nil {
		text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
		return fmt.Errorf("%w\n%s", err, text)
	}
	return nil
}

// eventually tries until it goes well, for as long as patience lasts.
func (s *subject) eventually(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) || !wait(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

// roots are what its certificates are trusted by; they are there once it has issued one.
func (s *subject) roots(ctx context.Context) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	return roots, s.eventually(ctx, func() error {
		text, err := os.ReadFile(filepath.Join(s.dir, "certs/local/root.pem"))
		if err == nil && !roots.AppendCertsFromPEM(text) {
			err = errors.New("the local root is no certificate")
		}
		return err
	})
}

// stop ends the process.
func (s *subject) stop() error {
	s.admin.CloseIdleConnections()
	_ = s.command.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = s.command.Wait()                          // what it said is in the log
	return nil
}

// targetStatus is what cutover says of a target.
type targetStatus struct {
	URL          string    `json:"url"`
	InFlight     int64     `json:"in_flight"`
	FailingSince time.Time `json:"failing_since"`
}

// status returns what it says of an upstream's targets.
func (s *subject) status(ctx context.Context, upstream string) ([]targetStatus, error) {
	answer, err := s.ask(ctx, "/v1/status")
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	var all struct {
		Upstreams []struct {
			Name    string         `json:"name"`
			Targets []targetStatus `json:"targets"`
		} `json:"upstreams"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&all); err != nil {
		return nil, err
	}
	for _, u := range all.Upstreams {
		if u.Name == upstream {
			return u.Targets, nil
		}
	}
	return nil, nil
}

func (s *subject) ask(ctx context.Context, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		return nil, err
	}
	return s.admin.Do(request)
}

// held is what the process holds.
type held struct {
	Goroutines  int `json:"goroutines"`
	Descriptors int `json:"descriptors"`
}

// held counts what the process holds, that of counting included.
func (s *subject) held(ctx context.Context) (h held, err error) {
	answer, err := s.ask(ctx, "/metrics")
	if err != nil {
		return h, err
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name == "go_goroutines" {
			h.Goroutines, err = strconv.Atoi(value)
		}
	}
	list, wrong := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.command.Process.Pid))
	h.Descriptors = len(list)
	return h, errors.Join(err, lines.Err(), wrong)
}
