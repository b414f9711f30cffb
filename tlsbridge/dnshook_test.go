package tlsbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

// hookScript writes a hook, and returns where it is.
func hookScript(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dns-hook")
	must(t, os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755))
	return file
}

// behindSocket is a hook whose program is run on the other side of a real socket. Its log may be nil.
func behindSocket(t *testing.T, p DNSProgram, log io.Writer) *DNSHook {
	t.Helper()
	folder, err := os.MkdirTemp("", "hook") // t.TempDir is too long for a socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, "socket"))
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		cancel()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() {
				_ = p.Answer(ctx, c) // the other side sees it
				_ = c.Close()
			})
		}
	})
	hook := &DNSHook{Socket: listener.Addr().String(), Log: slog.New(slog.DiscardHandler)}
	if log != nil {
		hook.Log = slog.New(slog.NewTextHandler(log, nil))
	}
	return hook
}

func challengeRecord(value string) []libdns.Record {
	return []libdns.Record{libdns.RR{Type: "TXT", Name: "_acme-challenge.www", Data: value, TTL: time.Minute}}
}

func TestAHookIsToldWhatToDoWithoutAShellAndWithAnEnvironmentOfItsOwn(t *testing.T) {
	t.Setenv("CUTOVER_SECRET", "of the service")
	file := hookScript(t, `printf '%s\n' "$#" "$@" "${CUTOVER_SECRET-none}" "$PATH" >>"$(dirname "$0")/said"`)
	hook := behindSocket(t, DNSProgram{Command: file}, nil)
	const value = `a b;$(reboot)"'`
	_, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord(value))
	must(t, err)
	_, err = hook.DeleteRecords(t.Context(), "shop.test.", challengeRecord(value))
	must(t, err)
	said, err := os.ReadFile(filepath.Join(filepath.Dir(file), "said"))
	must(t, err)
	rest := "_acme-challenge.www.shop.test.\n" + value + "\nnone\n" + hookPath + "\n"
	if want := "3\npresent\n" + rest + "3\ncleanup\n" + rest; string(said) != want {
		t.Errorf("it was told\n%s, want\n%s", said, want)
	}
}

func TestWhatAHookSaysIsLoggedAndItsFailureIsTheNames(t *testing.T) {
	var log strings.Builder
	hook := behindSocket(t, DNSProgram{Command: hookScript(t, "echo first >&2; echo the API says no >&2; exit 3")}, &log)
	_, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord("v"))
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the API says no") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(log.String(), "first") || !strings.Contains(log.String(), "the API says no") {
		t.Errorf("the log has %s", log.String())
	}
}

func TestAHookThatSaysTooMuchFillsNoMemory(t *testing.T) {
	var log strings.Builder
	hook := behindSocket(t, DNSProgram{Command: hookScript(t, "head -c 3000000 /dev/zero | tr '\\0' x >&2")}, &log)
	_, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord("v"))
	must(t, err)
	if log.Len() == 0 || log.Len() > 2*maxHookText {
		t.Errorf("%d bytes are in the log", log.Len())
	}
}

func TestAHookThatHangsIsEnded(t *testing.T) {
	hook := behindSocket(t, DNSProgram{Command: hookScript(t, "sleep 1000"), Time: 100 * time.Millisecond}, nil)
	if _, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord("v")); err == nil || !strings.Contains(err.Error(), "within 100ms") {
		t.Errorf("%v", err)
	}
}

func TestAHookIsEndedWithItsChildrenWhenNobodyWaitsForItAnyMore(t *testing.T) {
	file := hookScript(t, `sleep 1000 & echo $! >"$(dirname "$0")/child.new"; mv "$(dirname "$0")/child.new" "$(dirname "$0")/child"; wait`)
	hook := behindSocket(t, DNSProgram{Command: file}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := hook.AppendRecords(ctx, "shop.test.", challengeRecord("v"))
		ended <- err
	}()
	child := awaitNumber(t, filepath.Join(filepath.Dir(file), "child"))
	cancel()
	if err := <-ended; err == nil {
		t.Error("it succeeded")
	}
	awaitEnd(t, child)
}

// awaitNumber waits for a file with a number.
func awaitNumber(t *testing.T, file string) (n int) {
	t.Helper()
	await(t, func() bool {
		text, err := os.ReadFile(file)
		if err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(string(text))) // it may be there before its text is
		}
		return err == nil
	})
	return n
}

// awaitEnd fails if a process goes on. Somebody else reaps it, so it may stay for a moment as a zombie.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	await(t, func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

func TestAHookThatIsAskedForNoMoreIsEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	hook := behindSocket(t, DNSProgram{Command: hookScript(t, "sleep 1000")}, nil)
	if _, err := hook.AppendRecords(ctx, "shop.test.", challengeRecord("v")); err == nil {
		t.Error("it succeeded")
	}
}

func TestAHookThatOthersCouldChangeIsNotRun(t *testing.T) {
	file := hookScript(t, `touch "$(dirname "$0")/ran"`)
	folder := filepath.Dir(file)
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(file, link))
	for name, row := range map[string]struct {
		command              string
		fileMode, folderMode os.FileMode
		want                 string
	}{
		"its group may write": {file, 0o775, 0o755, "chmod go-w " + file},
		"everybody may write": {file, 0o757, 0o755, "chmod go-w " + file},
		"its folder is open":  {file, 0o755, 0o777, "chmod go-w " + folder},
		"through a link":      {link, 0o755, 0o777, "chmod go-w " + folder},
		"a path to look for":  {"dns-hook", 0o755, 0o755, "absolute path"},
		"nothing there":       {file + "-gone", 0o755, 0o755, "no such file"},
		"a folder":            {folder, 0o755, 0o755, "not a program"},
		"nobody may run it":   {file, 0o644, 0o755, "chmod 755 " + file},
	} {
		must(t, os.Chmod(file, row.fileMode))
		must(t, os.Chmod(folder, row.folderMode))
		hook := behindSocket(t, DNSProgram{Command: row.command}, nil)
		_, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord("v"))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, os.Chmod(folder, 0o755))
	if _, err := os.Stat(filepath.Join(folder, "ran")); err == nil {
		t.Error("it was run")
	}
}

func TestALinkToAHookThatOthersCouldChangeIsNotFollowed(t *testing.T) {
	file := hookScript(t, `touch "$(dirname "$0")/ran"`)
	links := t.TempDir()
	link, below := filepath.Join(links, "link"), filepath.Join(links, "folder")
	must(t, os.Symlink(file, link))
	must(t, os.Symlink(filepath.Dir(file), below))
	for _, command := range []string{link, filepath.Join(below, filepath.Base(file))} {
		hook := behindSocket(t, DNSProgram{Command: command}, nil)
		must(t, os.Chmod(links, 0o777))
		if err := hook.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "chmod go-w "+links) {
			t.Errorf("%s in an open folder: %v", command, err)
		}
		must(t, os.Chmod(links, 0o755))
		_, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord("v"))
		must(t, err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "ran")); err != nil {
		t.Errorf("what was run is not what was looked at: %v", err)
	}
}

func TestAHookThatNobodyRunsSaysWhatIsMissing(t *testing.T) {
	hook := &DNSHook{Socket: filepath.Join(t.TempDir(), "socket")}
	if err := hook.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "sudo cutover units install") {
		t.Errorf("without a socket: %v", err)
	}
	hook = behindSocket(t, DNSProgram{}, nil)
	if err := hook.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "absolute path") {
		t.Errorf("without a program: %v", err)
	}
}

func TestAHookThatEndsWithoutAnAnswerIsAFailure(t *testing.T) {
	folder, err := os.MkdirTemp("", "hook")
	must(t, err)
	defer func() { _ = os.RemoveAll(folder) }()
	listener, err := net.Listen("unix", filepath.Join(folder, "socket"))
	must(t, err)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if c, err := listener.Accept(); err == nil {
			_ = c.Close()
		}
	}()
	hook := &DNSHook{Socket: listener.Addr().String()}
	if _, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord("v")); err == nil || !strings.Contains(err.Error(), "journalctl -u 'cutover-dns@*'") {
		t.Errorf("%v", err)
	}
	<-closed
	must(t, listener.Close())
}

func TestNothingButRecordsOfChallengesIsWritten(t *testing.T) {
	file := hookScript(t, `touch "$(dirname "$0")/ran"`)
	hook := behindSocket(t, DNSProgram{Command: file}, nil)
	for _, r := range []hookRequest{{"present", "www.shop.test.", "v"}, {"reboot", "_acme-challenge.shop.test.", "v"}, {"", "", ""}, {"present", "_acme-challenge.shop.test.", "a\x00b"}} {
		if err := hook.run(t.Context(), r.Action, r.Name, r.Value); err == nil || !strings.Contains(err.Error(), "only records of _acme-challenge") {
			t.Errorf("%q: %v", r, err)
		}
	}
	must(t, hook.Check(t.Context()))
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "ran")); err == nil {
		t.Error("it was run")
	}
}

func TestAHookIsRootsOrTheServicesOwn(t *testing.T) {
	for _, row := range []struct {
		mode        os.FileMode
		owner, self uint32
		safe        bool
	}{
		{0o755, 0, 999, true},
		{0o755, 999, 999, true},
		{0o755, 1000, 999, false},
		{0o755, 65534, 999, false},
		{os.ModeDir | os.ModeSticky | 0o777, 0, 999, true},
		{os.ModeDir | 0o777, 0, 999, false},
		{os.ModeSticky | 0o777, 0, 999, false},
		{os.ModeSymlink | 0o777, 0, 999, true},
		{os.ModeSymlink | 0o777, 1000, 999, false},
	} {
		if err := changeableByOthers("/x", row.mode, row.owner, row.self); (err == nil) != row.safe {
			t.Errorf("%v of %d: %v", row.mode, row.owner, err)
		}
	}
}

func TestWhoProvesByTheDNSSaysThatAFailureIsTheProofs(t *testing.T) {
	challenge := acme.Challenge{Type: acme.ChallengeTypeDNS01, Identifier: acme.Identifier{Type: "dns", Value: "shop.test"}}
	for _, prover := range []DNSProver{&DNSHook{Socket: "/nowhere", Resolvers: []string{"127.0.0.1:1"}}, &DNSUpdate{Server: "127.0.0.1:1"}} {
		solver := prover.solver(zap.NewNop())
		if err := solver.Present(t.Context(), challenge); !errors.As(err, new(*proofError)) {
			t.Errorf("%T: Present: %v", prover, err)
		}
		waiter, ok := solver.(acmez.Waiter)
		if !ok {
			t.Fatalf("%T does not wait for the DNS", prover)
		}
		if err := waiter.Wait(t.Context(), challenge); !errors.As(err, new(*proofError)) {
			t.Errorf("%T: Wait: %v", prover, err)
		}
	}
}

func TestNamesThatCannotBeProvedByTheDNSBackOffAndHoldUpNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer func() { r.stop() }()
		r.ca.failWith(func(name string) error {
			if name != "good.test" {
				return fmt.Errorf("solving challenges: presenting for challenge: %w", &proofError{errors.New("the API says no")})
			}
			return nil
		})
		for range 3 {
			for i := range outageAfter {
				_, _ = r.shake(fmt.Sprintf("bad-%d.test", i), "192.0.2.1") // gets none
			}
			time.Sleep(13 * time.Minute)
		}
		r.mustShake("good.test")
		for _, a := range r.certificates.Status().BackedOff {
			if a.Failures != 3 || time.Until(a.Next) < time.Hour {
				t.Errorf("%s failed %d times and waits until %v", a.Name, a.Failures, a.Next)
			}
		}
		if backedOff := len(r.certificates.Status().BackedOff); backedOff != outageAfter || r.certificates.Status().Outage != "" {
			t.Errorf("%d names wait, and it is said: %q", backedOff, r.certificates.Status().Outage)
		}
	})
}

func TestHooksRunOneAfterTheOther(t *testing.T) {
	file := hookScript(t, `cd "$(dirname "$0")" && mkdir busy && sleep 0.05 && rmdir busy`)
	hook := behindSocket(t, DNSProgram{Command: file}, nil)
	failures := make(chan error, 5)
	for range 5 {
		go func() {
			_, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord("v"))
			failures <- err
		}()
	}
	for range 5 {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
}

func TestARecordIsCleanedUpThoughTheTimeForItPassedInTheQueue(t *testing.T) {
	file := hookScript(t, `echo "$1" >>"$(dirname "$0")/said"`)
	hook := behindSocket(t, DNSProgram{Command: file}, nil)
	done, err := hook.takeTurn(t.Context())
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cleaned := make(chan error, 1)
	go func() {
		_, err := hook.DeleteRecords(ctx, "shop.test.", challengeRecord("v"))
		cleaned <- err
	}()
	if _, err := hook.AppendRecords(ctx, "shop.test.", challengeRecord("v")); err == nil {
		t.Error("what nobody waits for any more was written")
	}
	done()
	must(t, <-cleaned)
	said, err := os.ReadFile(filepath.Join(filepath.Dir(file), "said"))
	if err != nil || string(said) != "cleanup\n" {
		t.Errorf("it was told %q, %v", said, err)
	}
}
