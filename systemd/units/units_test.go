package units

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// install writes the units to a folder of their own, with a program that exists.
func install(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "cutover")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Install(dir, Options{Binary: program}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func analyze(t *testing.T, arguments ...string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "systemd-analyze", arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %v: %v (is systemd installed?)\n%s", arguments, err, output)
	}
	return string(output)
}

func TestTheUnitsAreClean(t *testing.T) {
	dir := install(t)
	for _, name := range []string{"cutover.service", "cutover-hold.service", "cutover-http.socket", "cutover-https.socket", "cutover-admin.socket"} {
		if output := analyze(t, "verify", filepath.Join(dir, name)); strings.Contains(output, "cutover") {
			t.Errorf("%s: %s", name, output)
		}
	}
}

func TestTheSandboxIsTight(t *testing.T) {
	dir := install(t)
	for _, name := range []string{"cutover.service", "cutover-hold.service"} {
		analyze(t, "security", "--offline=true", "--threshold=15", filepath.Join(dir, name))
	}
}

func TestInstallingAgainChangesNothing(t *testing.T) {
	dir := t.TempDir()
	changed, err := Install(dir, Options{Admin: true})
	if err != nil || len(changed) != 7 {
		t.Fatalf("%v, %v", changed, err)
	}
	if changed, err = Install(dir, Options{Admin: true}); err != nil || len(changed) != 0 {
		t.Errorf("%v, %v", changed, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cutover.service"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, err = Install(dir, Options{}); err != nil || len(changed) != 1 || changed[0] != "cutover.service" {
		t.Errorf("%v, %v", changed, err)
	}
}

// Each of these lines is what keeps the sockets alive when a binary crashes.
func TestTheLinesThatKeepTheSocketsAliveAreThere(t *testing.T) {
	files, err := Files(Options{})
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]string{}
	for _, file := range files {
		text[file.Name] = file.Text
	}
	for name, lines := range map[string][]string{
		"cutover.service":      {"NonBlocking=yes", "StartLimitIntervalSec=0", "CapabilityBoundingSet=\n", "User=cutover", "SocketBindDeny=any"},
		"cutover-hold.service": {"RemainAfterExit=yes", "After=cutover-http.socket cutover-https.socket"},
		"cutover-http.socket":  {"Service=cutover-hold.service", "TriggerLimitIntervalSec=0", "FileDescriptorName=http\n"},
		"cutover-https.socket": {"Service=cutover-hold.service", "TriggerLimitIntervalSec=0", "FileDescriptorName=https\n"},
	} {
		for _, line := range lines {
			if !strings.Contains(text[name], line) {
				t.Errorf("%s lacks %q", name, line)
			}
		}
	}
	if _, err := Files(Options{Binary: "relative path"}); err == nil {
		t.Error("a program's path with a space was accepted")
	}
}
