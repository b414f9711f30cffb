package units

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// installed writes the units, for a program that exists, and returns their folder.
func installed(t *testing.T, o Options) string {
	t.Helper()
	o.Binary = filepath.Join(t.TempDir(), "cutover")
	if err := os.WriteFile(o.Binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Install(dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

// analyze runs systemd-analyze and returns what it printed.
func analyze(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Fatal("systemd-analyze is missing: install it with 'apt-get install systemd'")
	}
	output, err := exec.Command(tool, arguments...).CombinedOutput()
	return string(output), err
}

func unitFiles(t *testing.T, dir string) []string {
	t.Helper()
	services, err := filepath.Glob(filepath.Join(dir, "*.service"))
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := filepath.Glob(filepath.Join(dir, "*.socket"))
	if err != nil {
		t.Fatal(err)
	}
	if len(services) < 3 || len(sockets) < 3 {
		t.Fatalf("services %q, sockets %q", services, sockets)
	}
	return append(services, sockets...)
}

func TestSystemdFindsNothingToComplainOfInTheUnits(t *testing.T) {
	for _, o := range []Options{{}, {Admin: true}} {
		dir := installed(t, o)
		arguments := append([]string{"verify", "--man=no"}, unitFiles(t, dir)...)
		if output, err := analyze(t, arguments...); err != nil || output != "" {
			t.Errorf("%+v: %v\n%s", o, err, output)
		}
	}
}

func TestSystemdFindsAMistakeInAUnit(t *testing.T) { // so that the test above can fail
	dir := installed(t, Options{})
	path := filepath.Join(dir, "cutover.service")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "KillMode=", "KilMode=", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if output, _ := analyze(t, "verify", "--man=no", path); !strings.Contains(output, "KilMode") {
		t.Errorf("verify says %q", output)
	}
}

func TestTheServicesAreExposedToLittle(t *testing.T) {
	dir := installed(t, Options{Admin: true})
	// The threshold is in tenths: 15 is an exposure of 1.5.
	for name, most := range map[string]string{"cutover.service": "15", "cutover-hold.service": "15", "cutover-admin-hold.service": "15", "cutover-dns@.service": "25"} {
		if output, err := analyze(t, "security", "--offline=true", "--threshold="+most, "--no-pager", filepath.Join(dir, name)); err != nil {
			t.Errorf("%s: %v\n%s", name, err, output)
		}
	}
}

// lines returns the assignments of a shipped unit.
func lines(t *testing.T, name string) []string {
	t.Helper()
	files, err := Files(Options{Admin: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if file.Name == name {
			return strings.Split(file.Text, "\n")
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

func TestACrashingProgramCannotTakeTheSocketsDown(t *testing.T) {
	for name, want := range map[string][]string{
		"cutover.service":      {"StartLimitIntervalSec=0", "NonBlocking=yes", "Restart=always", "Sockets=cutover-http.socket cutover-https.socket"},
		"cutover-http.socket":  {"Service=cutover-hold.service", "TriggerLimitIntervalSec=0", "FileDescriptorName=http", "BindIPv6Only=ipv6-only"},
		"cutover-https.socket": {"Service=cutover-hold.service", "TriggerLimitIntervalSec=0", "FileDescriptorName=https", "BindIPv6Only=ipv6-only"},
		"cutover-admin.socket": {"Service=cutover-admin-hold.service", "TriggerLimitIntervalSec=0", "FileDescriptorName=admin", "ListenStream=127.0.0.1:9180"},
		"cutover-hold.service": {"RemainAfterExit=yes", "After=cutover-http.socket cutover-https.socket"},
	} {
		got := lines(t, name)
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("%s lacks %s", name, line)
			}
		}
	}
}

// A command with + or ! in front runs as root, and has the variables that were meant for the program: PATH, LD_PRELOAD.
func TestNothingRunsAsRootForAProgramOfAnotherUser(t *testing.T) {
	for _, line := range lines(t, "cutover-app@.service") {
		key, command, _ := strings.Cut(line, "=")
		prefix := command[:len(command)-len(strings.TrimLeft(command, "@-:+!"))]
		if strings.HasPrefix(key, "Exec") && strings.ContainsAny(prefix, "+!") {
			t.Errorf("%s", line)
		}
	}
}

func TestAWorkerThatRunsOutOfMemoryTakesNoOtherWithIt(t *testing.T) {
	got := lines(t, "cutover.service")
	for _, line := range []string{"OOMPolicy=continue", "KillMode=process"} {
		if !slices.Contains(got, line) {
			t.Errorf("cutover.service lacks %s", line)
		}
	}
}

func TestTheServiceNeedsNoCapability(t *testing.T) {
	got := lines(t, "cutover.service")
	for _, line := range []string{"CapabilityBoundingSet=", "AmbientCapabilities=", "NoNewPrivileges=yes", "SocketBindDeny=any", "User=cutover", "StateDirectoryMode=0700"} {
		if !slices.Contains(got, line) {
			t.Errorf("cutover.service lacks %s", line)
		}
	}
}

func TestTheServiceHasTheAdminSocketOnlyWhereAskedFor(t *testing.T) {
	const name = "cutover.service.d/admin.conf"
	for _, o := range []Options{{}, {Admin: true}} {
		_, err := os.Stat(filepath.Join(installed(t, o), name))
		if (err == nil) != o.Admin {
			t.Errorf("%+v: %s: %v", o, name, err)
		}
	}
	if slices.ContainsFunc(lines(t, "cutover.service"), func(line string) bool { return strings.Contains(line, "cutover-admin") }) {
		t.Error("cutover.service names the admin socket, and so would start it")
	}
}
