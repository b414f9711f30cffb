// Package installed puts Cutover into a box as an operator does, and looks at it from inside: what its processes hold, and
// what its admin socket says.
package installed

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cutover/scripts/e2e/box"
)

const adminSocket = "/run/cutover/admin.sock"

// Install copies a release and install.sh to folder, which the box must share, and installs there. configuration becomes
// cutover.toml.
func Install(s *box.Stage, b *box.Box, folder, release, scripts, configuration string) {
	s.Helper()
	program := filepath.Join(folder, filepath.Base(release))
	files := map[string]string{release: program}
	for _, name := range []string{"install.sh", "lib/release.sh"} {
		files[filepath.Join(scripts, name)] = filepath.Join(folder, "scripts", name)
	}
	for from, to := range files {
		if err := CopyFile(from, to); err != nil {
			s.Fatal(err)
		}
	}
	b.Run("mkdir -p /etc/cutover && cat >/etc/cutover/cutover.toml <<'END'\n" + configuration + "END")
	b.Run("CUTOVER_JUDGE_SECONDS=1 bash " + folder + "/scripts/install.sh " + program)
}

// Self copies the program that runs to folder, which the box must share, and returns where it is, inside and outside.
func Self(s *box.Stage, folder, name string) string {
	s.Helper()
	program := filepath.Join(folder, name)
	self, err := os.Executable()
	if err = errors.Join(err, os.Chmod(folder, 0o755), CopyFile(self, program)); err != nil { //nolint:gosec // the service's user reads there
		s.Fatal(err)
	}
	return program
}

// CopyFile copies a program or a script.
func CopyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o755)) //nolint:gosec // programs and scripts
}

// Processes returns the pids of a unit's processes; none, if it cannot be told.
func Processes(ctx context.Context, unit string) []string {
	group, _ := exec.CommandContext(ctx, "systemctl", "show", "-P", "ControlGroup", unit).Output() // without it there are no processes
	text, _ := os.ReadFile(filepath.Join("/sys/fs/cgroup", strings.TrimSpace(string(group)), "cgroup.procs"))
	return strings.Fields(string(text))
}

// ResidentBytes is the memory that a process has; 0 if it has ended.
func ResidentBytes(pid string) int64 {
	text, _ := os.ReadFile("/proc/" + pid + "/statm")
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64) // the kernel writes numbers
	return pages * int64(os.Getpagesize())
}

// AdminClient speaks to the admin socket as http://admin/…, over a new connection each time.
func AdminClient() *http.Client {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", adminSocket)
		},
	}}
}
