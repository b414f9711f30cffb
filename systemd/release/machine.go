package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Machine is the System that this program runs on. It needs root.
type Machine struct {
	Ask func(ctx context.Context) (Sample, error) // asks the process that serves
	// Lost lists what is in force and not known to a release whose rules have that schema.
	Lost func(ctx context.Context, schema int) ([]string, error)
}

const (
	service     = "cutover.service"
	unitsFolder = "/etc/systemd/system"
	serviceUser = "cutover"
)

// NotInstalled says that there is nothing to deploy to.
type NotInstalled struct{ Missing string }

func (e *NotInstalled) Error() string {
	return "Cutover is not installed on this machine: " + e.Missing + " is missing"
}

// Installed is of System.
func (Machine) Installed() error {
	for _, path := range []string{"/run/systemd/system", filepath.Join(unitsFolder, service)} {
		if _, err := os.Stat(path); err != nil {
			return &NotInstalled{path}
		}
	}
	if _, err := user.Lookup(serviceUser); err != nil {
		return &NotInstalled{"the user " + serviceUser}
	}
	return nil
}

// command makes a command in a process group of its own: a Ctrl-C at the terminal is for this program, which must not find
// its own tools killed half-way.
func command(ctx context.Context, name string, arguments ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, arguments...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.WaitDelay = 5 * time.Second
	return c
}

// Systemctl runs systemctl, and returns what it says.
func Systemctl(ctx context.Context, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	output, err := command(ctx, "systemctl", arguments...).CombinedOutput()
	text := strings.TrimSpace(string(output))
	if err != nil {
		first, _, _ := strings.Cut(text, "\n") // the rest says where to read on
		return text, fmt.Errorf("systemctl %s: %s: %w", strings.Join(arguments, " "), first, err)
	}
	return text, nil
}

// Restart is of System.
func (Machine) Restart(ctx context.Context) error {
	_, _ = Systemctl(ctx, "reset-failed", service) // fails if it has not failed
	_, err := Systemctl(ctx, "restart", service)
	return err
}

// Stop is of System.
func (Machine) Stop(ctx context.Context) error {
	_, err := Systemctl(ctx, "stop", service)
	return err
}

// Restarts is of System.
func (Machine) Restarts(ctx context.Context) (int, error) {
	text, err := Systemctl(ctx, "show", "--property=ActiveState,NRestarts", service)
	if err != nil {
		return 0, err
	}
	values := Properties(text)
	if state := values["ActiveState"]; state != "active" {
		return 0, fmt.Errorf("the service is %s", state)
	}
	return strconv.Atoi(values["NRestarts"])
}

// Properties reads what 'systemctl show' prints: a line KEY=VALUE each. Values of a key that comes again are kept as lines.
func Properties(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, found := strings.Cut(strings.TrimRight(line, "\n"), "="); found {
			if before, again := values[key]; again {
				value = before + "\n" + value
			}
			values[key] = value
		}
	}
	return values
}

// Sample is of System.
func (m Machine) Sample(ctx context.Context) (Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return m.Ask(ctx)
}

// Runs is of System.
func (Machine) Runs(pid int, release string) bool {
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return false
	}
	wanted, err := os.Stat(release)
	return err == nil && os.SameFile(running, wanted)
}

// Journal is of System.
func (Machine) Journal(ctx context.Context) string { return journal(ctx, service, 20) }

func journal(ctx context.Context, unit string, lines int) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text, _ := command(ctx, "journalctl", "--no-pager", "-o", "cat", "-n", strconv.Itoa(lines), "-u", unit).Output() // without it there is less to say
	return strings.TrimSpace(string(text))
}

// checkUnit is what makes the service a check of itself: with its user, sandbox, environment, drop-ins and sockets, and
// gone afterwards.
const checkUnit = `
[Unit]
CollectMode=inactive-or-failed
FailureAction=none
SuccessAction=none
[Service]
Type=oneshot
Restart=no
RemainAfterExit=no
RuntimeDirectoryPreserve=yes
KillMode=control-group
TimeoutStartSec=60
WatchdogSec=0
StandardOutput=file:%s
StandardError=inherit
ExecCondition=
ExecStartPre=
ExecStart=
ExecStart=%s serve --check
ExecStartPost=
ExecReload=
ExecStop=
ExecStopPost=
`

// Check is of System.
func (Machine) Check(ctx context.Context, release string) (string, error) {
	// What was changed in the units, and not made known to systemd yet, holds from the restart on: so for the check, too.
	// NeedDaemonReload is not asked: it can miss a drop-in whose folder is new.
	if _, err := Systemctl(ctx, "daemon-reload"); err != nil {
		return "", err
	}
	shipped, err := Systemctl(ctx, "cat", service)
	if err != nil {
		return "", err
	}
	output, err := os.CreateTemp("/run", "cutover-check.*")
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("cutover-check-%d.service", os.Getpid())
	path := filepath.Join("/run/systemd/system", name)
	err = errors.Join(output.Close(), os.WriteFile(path, fmt.Appendf([]byte(shipped), checkUnit, output.Name(), release), 0o644))
	if err == nil {
		_, err = Systemctl(ctx, "start", name)
	}
	said := reasonFor(ctx, name, output.Name(), err)
	_, _ = Systemctl(context.WithoutCancel(ctx), "stop", name) // in case that ctx ended meanwhile; else it is gone
	if err != nil {
		err = errors.New("its check failed")
	}
	return said, errors.Join(err, ctx.Err(), remove(path), remove(output.Name()))
}

// reasonFor returns what a check said; systemd knows why one could not even start.
func reasonFor(ctx context.Context, unit, output string, failed error) string {
	said, _ := os.ReadFile(output) // it was made above
	text := strings.TrimSpace(string(said))
	if failed == nil || text != "" {
		return text
	}
	return strings.TrimSpace(journal(ctx, unit, 5) + "\n" + failed.Error())
}

// Notes tells of units that differ from those that are installed.
func (Machine) Notes(ctx context.Context, release string) []string {
	files, err := unitsOf(ctx, release)
	if err != nil {
		return []string{fmt.Sprintf("the units of %s are not known: %v", release, err)}
	}
	var notes []string
	for _, file := range files {
		path := filepath.Join(unitsFolder, file.Name)
		if installed, err := os.ReadFile(path); err != nil || !bytes.Equal(installed, []byte(file.Text)) {
			notes = append(notes, path+" differs from what this release comes with: sudo cutover units install, then daemon-reload and restart")
		}
	}
	return notes
}

type unit struct{ Name, Text string }

// Losses is of System.
func (m Machine) Losses(ctx context.Context, release string) ([]string, error) {
	var build struct {
		Schema int `json:"schema"`
	}
	if err := ask(ctx, &build, release, "version", "-o", "json"); err != nil {
		return nil, fmt.Errorf("it does not say its schema: %w", err)
	}
	return m.Lost(ctx, build.Schema)
}

// unitsOf asks a release for its units.
func unitsOf(ctx context.Context, release string) (files []unit, err error) {
	return files, ask(ctx, &files, release, "units", "-o", "json")
}

// ask asks a release for something, as the service's user.
func ask(ctx context.Context, into any, release string, arguments ...string) error {
	account, err := user.Lookup(serviceUser)
	if err != nil {
		return err
	}
	uid, uidErr := strconv.ParseUint(account.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(account.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c := command(ctx, release, arguments...)
	c.Env, c.Dir = []string{"PATH=/usr/bin:/bin"}, "/"
	c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	output, err := c.Output()
	if err != nil {
		return err
	}
	return json.Unmarshal(output, into)
}
