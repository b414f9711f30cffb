package apps

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Places are the folders and files that managed programs have.
type Places struct {
	Apps     string // NAME.toml and NAME.current, root's
	Units    string // of systemd
	Programs string // NAME/NAME-TIMESTAMP: the executables that were deployed
	Sockets  string // NAME:a.sock
	Starts   string // NAME:a, where the service's template counts; each is of the program's user
	Binary   string // that runs CGI programs
}

// Standard is where everything is on a machine that Cutover is installed on.
func Standard() Places {
	return Places{"/etc/cutover/apps", "/etc/systemd/system", "/opt/cutover/apps", "/run/cutover-apps", "/run/cutover-starts", "/opt/cutover/cutover"}
}

// Socket is the path of a slot's socket.
func (p Places) Socket(name, slot string) string {
	return filepath.Join(p.Sockets, name+":"+slot+".sock")
}

func (p Places) file(name string) string        { return filepath.Join(p.Apps, name+".toml") }
func (p Places) currentFile(name string) string { return filepath.Join(p.Apps, name+".current") }

// startsFolder has what the service's template counts.
func (p Places) startsFolder(name, slot string) string { return filepath.Join(p.Starts, name+":"+slot) }

func (p Places) starts(name, slot string) string {
	return filepath.Join(p.startsFolder(name, slot), "starts")
}

// Unit is the name of a slot's unit; kind is service or socket.
func Unit(name, slot, kind string) string { return "cutover-app@" + name + ":" + slot + "." + kind }

func (p Places) dropIn(name, slot, kind string) string {
	return filepath.Join(p.Units, Unit(name, slot, kind)+".d", "cutover.conf")
}

func (p Places) heading(name string) string {
	return "# Made of " + p.file(name) + ": edit that, then run: cutover app restart " + name + "\n"
}

// serviceText is what the service of a slot has beyond the template. executable takes the place of the first word of exec.
func (p Places) serviceText(name string, a App, executable string) string {
	var b strings.Builder
	b.WriteString(p.heading(name) + "[Service]\nUser=" + a.User + "\n")
	if a.User == "root" {
		b.WriteString("CapabilityBoundingSet=~\n")
	}
	if a.Workdir != "" {
		b.WriteString("WorkingDirectory=" + a.Workdir + "\n")
	}
	for _, key := range slices.Sorted(maps.Keys(a.Env)) {
		b.WriteString("Environment=" + quoted(key+"="+a.Env[key]) + "\n")
	}
	if a.EnvFile != "" {
		b.WriteString("EnvironmentFile=" + a.EnvFile + "\n")
	}
	if a.Stdin {
		b.WriteString("StandardInput=socket\n")
	}
	words := slices.Clone(a.Exec)
	words[0] = executable
	if a.Protocol == CGI {
		words = append(p.cgiRunner(a), words...)
	}
	b.WriteString("ExecStart=\nExecStart=" + commandLine(words) + "\n")
	return b.String()
}

func (p Places) cgiRunner(a App) []string {
	return []string{
		p.Binary, "cgi-run", "--processes", strconv.Itoa(cmp.Or(a.CGI.Processes, 16)), "--waiting", strconv.Itoa(cmp.Or(a.CGI.Waiting, 100)),
		"--time-limit", cmp.Or(a.CGI.TimeLimit, "1m"), "--",
	}
}

// socketText is what the socket of a slot has beyond the template.
func (p Places) socketText(name string, a App) string {
	return p.heading(name) + fmt.Sprintf("[Socket]\nBacklog=%d\n", cmp.Or(a.Backlog, 128))
}

// commandLine writes words so that systemd reads the same (systemd.service(5), "Command lines"). The first, a plain path, stands
// as it is: it knows no variables, so that a doubled $ would stay.
func commandLine(words []string) string {
	line := words[0]
	for _, word := range words[1:] {
		line += " " + strings.ReplaceAll(quoted(word), "$", "$$")
	}
	return line
}

// quoted writes a word so that systemd reads the same, specifiers included.
func quoted(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`).Replace(word) + `"`
}
