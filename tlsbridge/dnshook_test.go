package tlsbridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

func challengeRecord(value string) []libdns.Record {
	return []libdns.Record{libdns.RR{Type: "TXT", Name: "_acme-challenge.www", Data: value, TTL: time.Minute}}
}

func TestAHookIsToldWhatToDoWithoutAShellAndWithAnEnvironmentOfItsOwn(t *testing.T) {
	t.Setenv("CUTOVER_SECRET", "of the service")
	file := hookScript(t, `printf '%s\n' "$#" "$@" "${CUTOVER_SECRET-none}" "$PATH" >>"$(dirname "$0")/said"`)
	hook := &DNSHook{Command: file, Log: slog.New(slog.DiscardHandler)}
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
	hook := &DNSHook{Command: hookScript(t, "echo first >&2; echo the API says no >&2; exit 3"), Log: slog.New(slog.NewTextHandler(&log, nil))}
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
	hook := &DNSHook{Command: hookScript(t, "head -c 3000000 /dev/zero | tr '\\0' x >&2"), Log: slog.New(slog.NewTextHandler(&log, nil))}
	_, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord("v"))
	must(t, err)
	if log.Len() == 0 || log.Len() > 2*maxHookText {
		t.Errorf("%d bytes are in the log", log.Len())
	}
}

func TestAHookThatHangsIsEnded(t *testing.T) {
	hook := &DNSHook{Command: hookScript(t, "sleep 1000"), Time: 100 * time.Millisecond, Log: slog.New(slog.DiscardHandler)}
	if _, err := hook.AppendRecords(t.Context(), "shop.test.", challengeRecord("v")); err == nil || !strings.Contains(err.Error(), "within 100ms") {
		t.Errorf("%v", err)
	}
}

func TestAHookIsEndedWithItsChildrenWhenNobodyWaitsForItAnyMore(t *testing.T) {
	file := hookScript(t, `sleep 1000 & echo $! >"$(dirname "$0")/child.new"; mv "$(dirname "$0")/child.new" "$(dirname "$0")/child"; wait`)
	hook := &DNSHook{Command: file, Log: slog.New(slog.DiscardHandler)}
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
	hook := &DNSHook{Command: hookScript(t, "sleep 1000"), Log: slog.New(slog.DiscardHandler)}
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
		hook := &DNSHook{Command: row.command, Log: slog.New(slog.DiscardHandler)}
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
		hook := &DNSHook{Command: command, Log: slog.New(slog.DiscardHandler)}
		must(t, os.Chmod(links, 0o777))
		if err := hook.Check(); err == nil || !strings.Contains(err.Error(), "chmod go-w "+links) {
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
	for _, prover := range []DNSProver{&DNSHook{Command: "/bin/false", Resolvers: []string{"127.0.0.1:1"}}, &DNSUpdate{Server: "127.0.0.1:1"}} {
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
	hook := &DNSHook{Command: file, Log: slog.New(slog.DiscardHandler)}
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
	hook := &DNSHook{Command: file, Log: slog.New(slog.DiscardHandler)}
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
