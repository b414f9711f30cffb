package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const nobody = 65534

// asRoot makes a command run as root: as it is, or by way of sudo.
func asRoot(t *testing.T, variables []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context()) // a test cleans up as root after its context has ended
	if os.Geteuid() == 0 {
		command := exec.CommandContext(ctx, program, args...)
		command.Env = append(os.Environ(), variables...)
		return command
	}
	if err := exec.CommandContext(ctx, "sudo", "-n", "true").Run(); err != nil {
		t.Fatal("this test needs root; run: sudo -E env PATH=\"$PATH\" go test ./cmd/cutover")
	}
	sudo := append([]string{"-n", "env"}, variables...)
	return exec.CommandContext(ctx, "sudo", append(append(sudo, program), args...)...)
}

// foreignState returns the variables that name a state directory of the user nobody.
func foreignState(t *testing.T) (state string, variables []string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "state")
	if err != nil {
		t.Fatal(err)
	}
	state = filepath.Join(folder, "state")
	for _, args := range [][]string{
		{"chmod", "755", folder},
		{"install", "-d", "-m", "700", "-o", "65534", "-g", "65534", state},
	} {
		if output, err := asRoot(t, nil, args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, output)
		}
	}
	t.Cleanup(func() {
		if output, err := asRoot(t, nil, "rm", "-rf", folder).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
	})
	return state, []string{"CUTOVER_STATE_DIR=" + state, "CUTOVER_RUNTIME_DIR=" + folder, "CUTOVER_CONFIG=/dev/null"}
}

func TestRootBecomesTheOwnerOfTheRulesBeforeTouchingThem(t *testing.T) {
	state, variables := foreignState(t)
	for _, args := range [][]string{{"rules", "set", "shop.example.com", "--percent", "10"}, {"explain", "https://shop.example.com/"}, {"sql", "UPDATE rules SET percent=20"}, {"status"}} {
		output, err := asRoot(t, variables, "cutover", args...).CombinedOutput()
		if err != nil && args[0] != "status" { // no daemon runs, and status says so
			t.Fatalf("cutover %v: %v\n%s", args, err, output)
		}
	}
	files := 0
	err := filepath.WalkDir(state, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		files++
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Uid != nobody || stat.Gid != nobody {
			t.Errorf("%s does not belong to the owner of the state directory: %+v", path, info.Sys())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 3 { // the folder, rules.db and a key at least
		t.Errorf("only %d files were looked at", files)
	}
}

func TestFilesAreReadAndWrittenAsWhoRunsTheCommand(t *testing.T) {
	_, variables := foreignState(t)
	folder := t.TempDir() // which the owner of the rules cannot enter
	file := filepath.Join(folder, "rules.csv")
	if err := os.WriteFile(file, []byte("host\nshop.example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"rules", "import", file, "--append"}, {"rules", "export", file}, {"rules", "diff", file}} {
		if output, err := asRoot(t, variables, "cutover", args...).CombinedOutput(); err != nil {
			t.Errorf("cutover %v: %v\n%s", args, err, output)
		}
	}
}

func TestTheJournalStillSaysThatItWasRoot(t *testing.T) {
	state, variables := foreignState(t)
	if output, err := asRoot(t, variables, "cutover", "rules", "set", "shop.example.com").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	output, err := asRoot(t, nil, "sqlite3", filepath.Join(state, "rules.db"), "SELECT author FROM changes ORDER BY seq DESC LIMIT 1").CombinedOutput()
	if err != nil || !strings.Contains(string(output), "root (uid 0)") {
		t.Errorf("the journal says %s (%v)", output, err)
	}
}

func TestWhoIsNeitherRootNorTheOwnerIsToldWhatToRun(t *testing.T) {
	state, variables := foreignState(t)
	command := asRoot(t, variables, "setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", programPath(t), "rules", "ls")
	var errs bytes.Buffer
	command.Stderr = &errs
	if err := command.Run(); err == nil {
		t.Error("somebody else's rules were listed")
	}
	if text := errs.String(); !strings.Contains(text, "the rules in "+state+" belong to") || !strings.Contains(text, "sudo") {
		t.Errorf("got %q", text)
	}
}

// programPath returns the program where every user may run it.
func programPath(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("cutover")
	if err != nil {
		t.Fatal(err)
	}
	for folder := filepath.Dir(program); folder != "/tmp" && folder != "/"; folder = filepath.Dir(folder) {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return program
}
