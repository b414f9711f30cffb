package tlsbridge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3"
	"go.uber.org/zap"
)

// DNSProver proves names to a CA by the DNS: *DNSUpdate or *DNSHook.
type DNSProver interface {
	solver(logger *zap.Logger) acmez.Solver
}

// DNSHook proves names by a program of the operator's that writes to the DNS. It is run, without a shell, as
//
//	COMMAND present FQDN VALUE
//	COMMAND cleanup FQDN VALUE
//
// where FQDN ends with a dot and VALUE is the text of one TXT record, of which there may be others with the same name. It must
// end with 0 when the DNS has, or no longer has, that record. One runs at a time in a process.
type DNSHook struct {
	Command   string        // an absolute path; neither it nor its folders may be changed by others
	Time      time.Duration // for one run; 0 means a minute
	Resolvers []string      // host:port of who is asked whether the record is there; none stands for the zone's own servers
	Log       *slog.Logger  // gets what the program writes to its standard error

	once sync.Once
	turn chan struct{}
}

const (
	hookTime    = time.Minute
	hookQueue   = 5 * time.Minute // for a turn to clean up
	hookCleanup = "cleanup"
	hookPath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	hookEnding  = 2 * time.Second // until what the program has started must have let go of its outputs
	maxHookText = 8 << 10         // of what one run says
)

func (h *DNSHook) solver(logger *zap.Logger) acmez.Solver {
	return dnsSolver{&certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{DNSProvider: h, TTL: recordTTL, Resolvers: h.Resolvers, Logger: logger}}}
}

// AppendRecords implements libdns.RecordAppender.
func (h *DNSHook) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, h.each(ctx, "present", zone, records)
}

// DeleteRecords implements libdns.RecordDeleter.
func (h *DNSHook) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, h.each(ctx, hookCleanup, zone, records)
}

func (h *DNSHook) each(ctx context.Context, action, zone string, records []libdns.Record) error {
	for _, record := range records {
		rr := record.RR()
		name := strings.TrimSuffix(libdns.AbsoluteName(rr.Name, zone), ".") + "."
		if err := h.inTurn(ctx, action, name, rr.Data); err != nil {
			return fmt.Errorf("%s %s %s: %w", h.Command, action, name, err)
		}
	}
	return nil
}

// inTurn runs the program when no other run is under way. What is cleaned up has its time from then on: it was certmagic's, for the
// wait as well, and nobody would clean up later.
func (h *DNSHook) inTurn(ctx context.Context, action, name, value string) error {
	waiting := ctx
	if action == hookCleanup {
		ctx = context.WithoutCancel(ctx)
		bounded, cancel := context.WithTimeout(ctx, hookQueue)
		defer cancel()
		waiting = bounded
	}
	done, err := h.takeTurn(waiting)
	if err != nil {
		return fmt.Errorf("it did not get its turn: %w", err)
	}
	defer done()
	return h.run(ctx, action, name, value)
}

// takeTurn waits until no other run is under way.
func (h *DNSHook) takeTurn(ctx context.Context) (done func(), err error) {
	h.once.Do(func() { h.turn = make(chan struct{}, 1) })
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *DNSHook) run(ctx context.Context, action, name, value string) error {
	program, err := h.program()
	if err != nil {
		return err
	}
	limit := orDefault(h.Time, hookTime)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var said hookText
	err = h.start(limited, program, &said, action, name, value)
	h.report(action, name, said.text)
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
func (h *DNSHook) start(ctx context.Context, program string, said *hookText, arguments ...string) error {
	command := exec.CommandContext(ctx, program, arguments...) //nolint:gosec // it is the operator's, and was looked at
	command.Args[0] = h.Command
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

func (h *DNSHook) report(action, name, text string) {
	if h.Log == nil {
		return
	}
	for line := range strings.Lines(text) {
		h.Log.Info("the DNS hook says", slog.String("action", action), slog.String("name", name), slog.String("line", strings.TrimSpace(line)))
	}
}

// Check says why the program must not be run, or cannot be: whoever may change it would act as the service.
func (h *DNSHook) Check() error {
	_, err := h.program()
	return err
}

// program returns the file that is to be run: what was looked at, wherever a link may lead a moment later.
func (h *DNSHook) program() (real string, err error) {
	if !filepath.IsAbs(h.Command) {
		return "", fmt.Errorf("%q must be an absolute path", h.Command)
	}
	if real, err = filepath.EvalSymlinks(h.Command); err != nil {
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
	if err := checkPath(real); err != nil {
		return "", err
	}
	return real, checkPath(h.Command) // who may change a link there chooses what is run
}

// checkPath looks at a file and at every folder on the way to it.
func checkPath(path string) error {
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
		return fmt.Errorf("it is not run, since user %d owns %s and could change it: chown root %s", owner, path, path)
	}
	if mode.Type() == fs.ModeSymlink {
		return nil // its mode says nothing
	}
	held := mode.IsDir() && mode&fs.ModeSticky != 0 // there nobody can replace what is another's
	if mode&0o022 != 0 && !held {
		return fmt.Errorf("it is not run, since others may write to %s and could change it: chmod go-w %s", path, path)
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
