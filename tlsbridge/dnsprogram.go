package tlsbridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// DNSProgram is the other side of a DNSHook: it runs a program of the operator's, without a shell, as
//
//	COMMAND present FQDN VALUE
//	COMMAND cleanup FQDN VALUE
//
// where FQDN ends with a dot and VALUE is the text of one TXT record, of which there may be others with the same name. It must
// end with 0 when the DNS has, or no longer has, that record.
type DNSProgram struct {
	Command string        // an absolute path; neither it nor its folders may be changed by others
	Time    time.Duration // for one run; 0 means a minute
}

const (
	hookPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	hookReading = 30 * time.Second // until the request is there
	hookEnding  = 2 * time.Second  // until what the program has started must have let go of its outputs
	maxHookText = 8 << 10          // of what one run says
	maxHookLine = 64 << 10
)

// Answer reads a request from a connection, does it, and writes the answer. The program is ended when the connection is.
func (p *DNSProgram) Answer(ctx context.Context, c net.Conn) error {
	return AnswerDNSHook(ctx, c, func() (*DNSProgram, error) { return p, nil })
}

// AnswerDNSHook is Answer for a program that has to be found first; that it is not found is the answer, too.
func AnswerDNSHook(ctx context.Context, c net.Conn, find func() (*DNSProgram, error)) error {
	var request hookRequest
	if err := c.SetDeadline(time.Now().Add(hookReading)); err != nil {
		return err
	}
	if err := json.NewDecoder(io.LimitReader(c, maxHookLine)).Decode(&request); err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return err
	}
	var said hookText
	answer := hookAnswer{}
	program, err := find()
	if err == nil {
		err = whileOpen(ctx, c, func(ctx context.Context) error { return program.do(ctx, request, &said) })
	}
	if err != nil {
		answer.Error = err.Error()
	}
	answer.Said = said.text
	if err := c.SetDeadline(time.Now().Add(hookReading)); err != nil {
		return err
	}
	return json.NewEncoder(c).Encode(answer)
}

// whileOpen does something with a context that ends when the other side closes the connection, of which nothing more is to come.
func whileOpen(ctx context.Context, c net.Conn, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	closed := make(chan struct{})
	go func() { // ends with the deadline below
		defer close(closed)
		_, _ = c.Read(make([]byte, 1))
		cancel()
	}()
	err := do(ctx)
	_ = c.SetReadDeadline(time.Unix(1, 0))
	<-closed
	return err
}

func (p *DNSProgram) do(ctx context.Context, request hookRequest, said *hookText) error {
	program, err := p.program()
	if err != nil || request.Action == hookCheck {
		return err
	}
	if !slices.Contains([]string{hookPresent, hookCleanup}, request.Action) || !strings.HasPrefix(request.Name, "_acme-challenge.") || strings.ContainsRune(request.Value, 0) {
		return fmt.Errorf("nobody is asked to %q %q: only records of _acme-challenge are written", request.Action, request.Name)
	}
	limit := orDefault(p.Time, hookTime)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = p.start(limited, program, said, request.Action, request.Name, request.Value)
	switch {
	case err == nil:
		return nil
	case limited.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("it did not end within %v", limit)
	case said.last() != "":
		return fmt.Errorf("%w: %s", err, said.last())
	}
	return err
}

// start runs the program in a process group of its own, which ends with it.
func (p *DNSProgram) start(ctx context.Context, program string, said *hookText, arguments ...string) error {
	command := exec.CommandContext(ctx, program, arguments...) //nolint:gosec // it is the operator's, and was looked at
	command.Args[0] = p.Command
	command.Env, command.Dir = []string{"PATH=" + hookPath, "LANG=C.UTF-8"}, "/"
	command.Stderr, command.WaitDelay = said, hookEnding
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endGroup := func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.Cancel = endGroup
	err := command.Run()
	if command.Process != nil {
		_ = endGroup() // what it left behind; mostly there is nothing
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		return nil // it ended well, and what it left behind held its output
	}
	return err
}

// program returns the file that is to be run: what was looked at, wherever a link may lead a moment later.
func (p *DNSProgram) program() (real string, err error) {
	if !filepath.IsAbs(p.Command) {
		return "", fmt.Errorf("%q must be an absolute path", p.Command)
	}
	if real, err = filepath.EvalSymlinks(p.Command); err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", err
	}
	switch {
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a program", real)
	case info.Mode()&0o111 == 0:
		return "", fmt.Errorf("nobody may run it: chmod 755 %s", real)
	}
	if err := CheckTrusted(real); err != nil {
		return "", err
	}
	return real, CheckTrusted(p.Command) // who may change a link there chooses what is run
}

// CheckTrusted says why others than root and this process's user could change a file, or put another in its place.
func CheckTrusted(path string) error {
	for {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("whose %s is cannot be told", path)
		}
		if err := changeableByOthers(path, info.Mode(), stat.Uid, uint32(os.Geteuid())); err != nil {
			return err
		}
		parent := filepath.Dir(path)
		if parent == path {
			return nil
		}
		path = parent
	}
}

// changeableByOthers says why others than root and the service itself could put something else in the place of a file.
func changeableByOthers(path string, mode fs.FileMode, owner, self uint32) error {
	if owner != 0 && owner != self {
		return fmt.Errorf("it is not trusted, since user %d owns %s and could change it: chown root %s", owner, path, path)
	}
	if mode.Type() == fs.ModeSymlink {
		return nil // its mode says nothing
	}
	held := mode.IsDir() && mode&fs.ModeSticky != 0 // there nobody can replace what is another's
	if mode&0o022 != 0 && !held {
		return fmt.Errorf("it is not trusted, since others may write to %s and could change it: chmod go-w %s", path, path)
	}
	return nil
}

// hookText keeps the beginning of what a program says.
type hookText struct{ text string }

func (t *hookText) Write(p []byte) (int, error) {
	t.text += string(p[:min(len(p), maxHookText-len(t.text))])
	return len(p), nil
}

// last returns the last line.
func (t *hookText) last() string {
	text := strings.TrimSpace(t.text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
