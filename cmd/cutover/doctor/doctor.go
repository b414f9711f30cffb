// Package doctor looks at an installation of Cutover and says what is wrong with it. It changes nothing.
package doctor

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"cutover/proxy/admin"
)

// Result is how a check ended.
type Result string

// The results there are. What cannot be seen is never OK.
const (
	OK        Result = "ok"
	Warn      Result = "warn"        // it works, and may not one day
	Fail      Result = "fail"        // it does not work, or will not
	Unchecked Result = "not checked" // it cannot be seen from here
)

// Finding is what one check found.
type Finding struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	Found  string `json:"found"`
	Next   string `json:"next,omitempty"` // what to do about it
}

// Machine is what the checks look at. All fields are required.
type Machine struct {
	Files   string // where the file system begins: "/", or a folder that stands for it
	Root    bool   // this process may see everything
	Owner   int    // user id of the service; below 0 if there is no such user
	Version string // of the program that asks

	StateDir  string
	Issuer    string // acme, local or off
	Directory string // URL of the CA
	DNSHook   bool   // a program proves names by the DNS

	Show   func(ctx context.Context, unit string) (map[string]string, error) // properties, as 'systemctl show' prints them
	Run    func(ctx context.Context, name string, arguments ...string) (string, error)
	Status func(ctx context.Context) (admin.Status, error) // of the process that serves
	Rules  func(ctx context.Context) (string, error)       // looks at the database where no process serves; called last
	Reach  func(ctx context.Context, url string) error
	Clock  func() (now time.Time, synchronised bool, err error)
	Disk   func(path string) (Space, error)
}

// Space is what is left on a file system.
type Space struct{ Bytes, Inodes, AllInodes uint64 }

// Examine runs every check. It does not change the machine, but m.Rules may change this process.
func Examine(ctx context.Context, m *Machine) []Finding {
	status, err := m.Status(ctx)
	x := &examination{Machine: m, status: status, answered: err == nil && status.Running, problem: err}
	for _, check := range []func(context.Context){
		x.units, x.sockets, x.backlog, x.service, x.hold, x.hook, x.admin, x.release, x.limits, x.memory,
		x.state, x.disk, x.clock, x.sqlite, x.ports, x.acme, x.expiry, x.errorPages, x.rules,
	} {
		check(ctx)
	}
	return x.findings
}

// Worst returns how many checks failed.
func Worst(findings []Finding) (failed int) {
	for _, f := range findings {
		if f.Result == Fail {
			failed++
		}
	}
	return failed
}

type examination struct {
	*Machine
	status   admin.Status
	answered bool  // a process serves, and status is what it says
	problem  error // why there is no status
	findings []Finding
}

func (x *examination) add(check string, result Result, found, next string) {
	x.findings = append(x.findings, Finding{check, result, found, next})
}

func (x *examination) ok(check, found string)         { x.add(check, OK, found, "") }
func (x *examination) warn(check, found, next string) { x.add(check, Warn, found, next) }
func (x *examination) fail(check, found, next string) { x.add(check, Fail, found, next) }

// unseen says that something cannot be seen from here.
func (x *examination) unseen(check, found string) {
	next := "run it with sudo"
	if x.Root {
		next = ""
	}
	x.add(check, Unchecked, found, next)
}

func (x *examination) path(path string) string { return filepath.Join(x.Files, path) }

func (x *examination) read(path string) (string, error) {
	text, err := os.ReadFile(x.path(path))
	return string(text), err
}

// ownerOf returns the user id of a file's owner, -1 if the system does not tell.
func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}
