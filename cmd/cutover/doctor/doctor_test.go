package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/proxy"
	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/systemd/units"
)

// patient is a machine whose files, units and answers a test may spoil.
type patient struct {
	*Machine
	t      *testing.T
	shown  map[string]map[string]string
	status admin.Status
	silent error // why no daemon answers
}

const current = "/opt/cutover/releases/cutover-20260101000001"

// healthy returns a machine with which nothing is wrong.
func healthy(t *testing.T) *patient {
	t.Helper()
	p := &patient{t: t, status: admin.Status{Running: true, Ready: true, PID: 42, Version: "20260101000001+abc", Certificates: &admin.CertificateStatus{}, ErrorPages: &proxy.PagesStatus{}}}
	p.status.Memory = &admin.MemoryStatus{Used: 100 << 20, Limit: 1 << 30, From: "limits.memory"}
	socket := func(name, port string) map[string]string {
		return map[string]string{
			"ActiveState": "active", "FileDescriptorName": name, "TriggerLimitIntervalUSec": "0",
			"Listen": "0.0.0.0:" + port + " (Stream)\n[::]:" + port + " (Stream)", "Backlog": "4294967295",
		}
	}
	p.shown = map[string]map[string]string{
		"cutover-http.socket": socket("http", "80"), "cutover-https.socket": socket("https", "443"),
		"cutover-hold.service": {"ActiveState": "active"}, "cutover-dns.socket": {"ActiveState": "active"},
		"cutover.service": {"LoadState": "loaded", "ActiveState": "active", "NonBlocking": "yes", "StartLimitIntervalUSec": "0", "NRestarts": "0", "NeedDaemonReload": "no"},
	}
	p.Machine = &Machine{
		Files: t.TempDir(), Root: true, Owner: os.Getuid(), Version: "20260101000001+abc", StateDir: "/state", Issuer: "acme", Directory: "https://ca.test/", DNSHook: true,
		Show: func(_ context.Context, unit string) (map[string]string, error) { return p.shown[unit], nil },
		Run: func(context.Context, string, ...string) (string, error) {
			return "3.51.3 2026-01-01 00:00:00 abc\n", nil
		},
		Status: func(context.Context) (admin.Status, error) {
			if p.silent != nil {
				return admin.Status{}, p.silent
			}
			return p.status, nil
		},
		Rules: func(context.Context) (string, error) { return "3 rules", nil },
		Reach: func(context.Context, string) error { return nil },
		Clock: func() (time.Time, bool, error) { return time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC), true, nil },
		Disk:  func(string) (Space, error) { return Space{10 << 30, 1 << 20, 1 << 21}, nil },
	}
	p.fill()
	return p
}

func (p *patient) fill() {
	p.t.Helper()
	list, err := units.Files(units.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, file := range list {
		p.write(unitsFolder+file.Name, file.Text)
	}
	p.write("/proc/sys/net/core/somaxconn", "4096\n")
	p.write("/proc/42/limits", "Limit  Soft Limit  Hard Limit  Units\nMax open files            1048576              1048576              files     \n")
	p.write(current, "program")
	p.link("/opt/cutover/cutover", current)
	p.link("/proc/42/exe", p.Files+current)
	p.write("/state/rules.db", "")
	p.write("/state/certs/key", "")
	p.write("/proc/net/tcp", table(80, "11")+table(443, "12"))
	p.write("/proc/net/tcp6", table(80, "13")+table(443, "14"))
	for i := 11; i <= 14; i++ {
		p.link(fmt.Sprintf("/proc/1/fd/%d", i), fmt.Sprintf("socket:[%d]", i))
	}
}

// table is a line of /proc/net/tcp: a socket that listens.
func table(port int, inode string) string {
	return fmt.Sprintf("   0: 00000000:%04X 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 %s 1 0000000000000000 100 0 0 10 0\n", port, inode)
}

func (p *patient) write(path, text string) {
	p.t.Helper()
	path = p.path(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) path(path string) string { return filepath.Join(p.Files, path) }

func (p *patient) link(path, target string) {
	p.t.Helper()
	path = p.path(path)
	_ = os.Remove(path) // of an earlier link
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.Symlink(target, path)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) do(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestNothingIsWrongWithAHealthyMachine(t *testing.T) {
	findings := Examine(t.Context(), healthy(t).Machine)
	for _, f := range findings {
		if f.Result != OK {
			t.Errorf("%+v", f)
		}
	}
	if len(findings) != 20 {
		t.Errorf("%d findings", len(findings))
	}
}

// spoiled is one thing that is wrong, and the finding that must tell of it.
type spoiled struct {
	how    func(p *patient)
	check  string
	result Result
	found  string
}

func spoiledUnits() map[string]spoiled {
	return map[string]spoiled{
		"a unit is missing":          {func(p *patient) { p.do(os.Remove(p.path(unitsFolder + "cutover.service"))) }, "units", Fail, "cutover.service"},
		"a unit differs":             {func(p *patient) { p.write(unitsFolder+"cutover.service", "[Unit]") }, "units", Warn, "cutover.service"},
		"systemd knows an older one": {func(p *patient) { p.shown["cutover.service"]["NeedDaemonReload"] = "yes" }, "units", Warn, "does not know"},
		"a socket's name":            {func(p *patient) { p.shown["cutover-http.socket"]["FileDescriptorName"] = "web" }, "socket http", Fail, "FileDescriptorName=web"},
		"a socket's trigger limit":   {func(p *patient) { p.shown["cutover-https.socket"]["TriggerLimitIntervalUSec"] = "2s" }, "socket https", Fail, "2s"},
		"a socket's port":            {func(p *patient) { p.shown["cutover-http.socket"]["Listen"] = "0.0.0.0:8080 (Stream)" }, "socket http", Warn, "8080"},
		"a socket is off":            {func(p *patient) { p.shown["cutover-http.socket"]["ActiveState"] = "failed" }, "socket http", Warn, "failed"},
		"both sockets are off": {func(p *patient) {
			p.shown["cutover-http.socket"]["ActiveState"], p.shown["cutover-https.socket"]["ActiveState"] = "failed", "inactive"
		}, "sockets", Fail, "neither"},
		"somaxconn":              {func(p *patient) { p.write("/proc/sys/net/core/somaxconn", "128\n") }, "backlog", Warn, "128"},
		"Backlog=":               {func(p *patient) { p.shown["cutover-https.socket"]["Backlog"] = "5" }, "backlog", Warn, "Backlog=5"},
		"NonBlocking=":           {func(p *patient) { p.shown["cutover.service"]["NonBlocking"] = "no" }, "service", Fail, "NonBlocking=no"},
		"StartLimitIntervalSec=": {func(p *patient) { p.shown["cutover.service"]["StartLimitIntervalUSec"] = "10s" }, "service", Fail, "10s"},
		"the service failed":     {func(p *patient) { p.shown["cutover.service"]["ActiveState"] = "failed" }, "service", Fail, "failed"},
		"it was restarted":       {func(p *patient) { p.shown["cutover.service"]["NRestarts"] = "3" }, "service", Warn, "3 times"},
		"the hold unit":          {func(p *patient) { p.shown["cutover-hold.service"]["ActiveState"] = "inactive" }, "hold unit", Fail, "inactive"},
		"the DNS hook's socket":  {func(p *patient) { p.shown["cutover-dns.socket"]["ActiveState"] = "inactive" }, "DNS hook", Fail, "inactive"},
	}
}

func spoiledProcesses() map[string]spoiled {
	return map[string]spoiled{
		"no daemon":                {func(p *patient) { p.silent = errors.New("refused") }, "admin socket", Fail, "refused"},
		"not ready":                {func(p *patient) { p.status.Ready, p.status.NotReady = false, "draining" }, "admin socket", Fail, "draining"},
		"no symlink":               {func(p *patient) { p.do(os.Remove(p.path("/opt/cutover/cutover"))) }, "release", Fail, "no symlink"},
		"the symlink leads astray": {func(p *patient) { p.link("/opt/cutover/cutover", "/nowhere") }, "release", Fail, "gone"},
		"another release serves": {func(p *patient) {
			p.write("/other", "")
			p.link("/proc/42/exe", p.Files+"/other")
		}, "release", Warn, "runs another"},
		"no memory limit":   {func(p *patient) { p.status.Memory = &admin.MemoryStatus{From: "none"} }, "memory limit", Warn, "there is none"},
		"few files":         {func(p *patient) { p.write("/proc/42/limits", "Max open files 1024 4096 files\n") }, "file limit", Fail, "1024"},
		"not so many files": {func(p *patient) { p.write("/proc/42/limits", "Max open files 20000 20000 files\n") }, "file limit", Warn, "20000"},
	}
}

func spoiledMachines() map[string]spoiled {
	return map[string]spoiled{
		"a file others may read": {func(p *patient) { p.do(os.Chmod(p.path("/state/certs/key"), 0o644)) }, "state", Fail, "644"},
		"an open folder":         {func(p *patient) { p.do(os.Chmod(p.path("/state"), 0o755)) }, "state", Fail, "755"},
		"a stranger's folder":    {func(p *patient) { p.Owner += 1000 }, "state", Fail, "belongs to user"},
		"no user":                {func(p *patient) { p.Owner = -1 }, "state", Fail, "no user cutover"},
		"no state":               {func(p *patient) { p.StateDir = "/nowhere" }, "state", Fail, "there is no /nowhere"},
		"a full disk": {func(p *patient) {
			p.Disk = func(string) (Space, error) { return Space{1 << 20, 1 << 20, 1 << 21}, nil }
		}, "disk", Fail, "1 MiB"},
		"a disk without inodes": {func(p *patient) { p.Disk = func(string) (Space, error) { return Space{1 << 40, 3, 1 << 21}, nil } }, "disk", Fail, "3 files"},
		"little disk":           {func(p *patient) { p.Disk = func(string) (Space, error) { return Space{100 << 20, 0, 0}, nil } }, "disk", Warn, "100 MiB"},
		"the clock drifts":      {func(p *patient) { p.Clock = func() (time.Time, bool, error) { return time.Now(), false, nil } }, "clock", Warn, "not synchronised"},
		"the clock is wrong":    {func(p *patient) { p.Clock = func() (time.Time, bool, error) { return time.Unix(0, 0), true, nil } }, "clock", Fail, "1970"},
		"a port with a stranger": {func(p *patient) {
			p.write("/proc/net/tcp", table(80, "99")+table(443, "12"))
			p.link("/proc/7/fd/3", "socket:[99]")
			p.write("/proc/7/comm", "nginx\n")
		}, "ports 80 and 443", Fail, "nginx (process 7) on port 80"},
		"no ports": {func(p *patient) { p.write("/proc/net/tcp", ""); p.write("/proc/net/tcp6", "") }, "ports 80 and 443", Fail, "nobody"},
		"one port": {func(p *patient) { p.write("/proc/net/tcp", table(80, "11")); p.write("/proc/net/tcp6", "") }, "ports 80 and 443", Warn, "443"},
		"the CA is away": {func(p *patient) {
			p.Reach = func(context.Context, string) error { return errors.New("no route") }
		}, "certificates", Warn, "no route"},
		"the database": {func(p *patient) { p.status.Store.Problem = "the database is damaged" }, "rules", Fail, "damaged"},
		"a guard that never made sense": {func(p *patient) {
			p.status.Rules.ProblemsTotal = 1
			p.status.Rules.Problems = []rules.Problem{{Table: "guards", Row: "3", Host: "shop.test", Reason: "allow: nobody; " + rules.ReasonClosed}}
		}, "rules", Fail, "guard 3 of shop.test"},
		"spoiled rows": {func(p *patient) { p.status.Rules.ProblemsTotal = 2 }, "rules", Warn, "2 rows"},
		"a dead daemon's database": {func(p *patient) {
			p.silent, p.Rules = errors.New("refused"), func(context.Context) (string, error) { return "", errors.New("not a database") }
		}, "rules", Fail, "not a database"},
	}
}

func spoiledCertificates() map[string]spoiled {
	ending := []admin.EndingStatus{{Name: "shop.example.com"}}
	return map[string]spoiled{
		"an expired certificate": {func(p *patient) {
			*p.status.Certificates = admin.CertificateStatus{States: map[admin.CertificateState]int{admin.CertificateExpired: 1}, Ending: ending, EndingTotal: 1}
		}, "expiry", Fail, "1 certificates have ended, first shop.example.com"},
		"a certificate that ends": {func(p *patient) {
			*p.status.Certificates = admin.CertificateStatus{Ending: ending, EndingTotal: 1}
		}, "expiry", Warn, "within 7 days, first shop.example.com"},
		"a name that is held back": {func(p *patient) {
			*p.status.Certificates = admin.CertificateStatus{BackedOffTotal: 1, BackedOff: []admin.BackedOffStatus{{Name: "new.example.com"}}}
		}, "expiry", Warn, "new.example.com"},
		"a pair of files": {func(p *patient) {
			p.status.Certificates.Files = []admin.FileStatus{{Name: "shop", Problem: "shop.key is gone"}}
		}, "expiry", Warn, "shop.key is gone"},
		"an error page": {func(p *patient) {
			p.status.ErrorPages = &proxy.PagesStatus{Dir: "/etc/cutover/errors", Problems: []proxy.PageProblem{{File: "502.html", Problem: "it is empty"}}}
		}, "error pages", Warn, "/etc/cutover/errors/502.html cannot be used: it is empty"},
		"a wrong profile": {func(p *patient) { p.status.Certificates.Problem = "the CA has no profile" }, "expiry", Fail, "the CA has no profile"},
	}
}

func TestEachThingThatIsSpoiledIsFound(t *testing.T) {
	all := spoiledUnits()
	maps.Copy(all, spoiledProcesses())
	maps.Copy(all, spoiledMachines())
	maps.Copy(all, spoiledCertificates())
	for name, spoil := range all {
		t.Run(name, func(t *testing.T) {
			p := healthy(t)
			spoil.how(p)
			findings := Examine(t.Context(), p.Machine)
			for _, f := range findings {
				if f.Check == spoil.check && f.Result == spoil.result && strings.Contains(f.Found, spoil.found) && f.Next != "" {
					return
				}
			}
			t.Errorf("no %s of %s with %q and a next step in %+v", spoil.result, spoil.check, spoil.found, findings)
		})
	}
}

func TestSQLiteProgramsThatLoseRowsAreWarnedOf(t *testing.T) {
	for version, want := range map[string]Result{
		"3.51.3": OK, "3.52.0": OK, "3.50.7": OK, "3.44.6": OK,
		"3.51.2": Warn, "3.51.0": Warn, "3.50.6": Warn, "3.45.0": Warn, "3.44.5": Warn, "3.40.1": Warn, "3.31.0": Warn, "3.22.0": Warn,
		"three": Unchecked,
	} {
		p := healthy(t)
		p.Run = func(context.Context, string, ...string) (string, error) { return version + " 2026-01-01 abc", nil }
		for _, f := range Examine(t.Context(), p.Machine) {
			if f.Check == "sqlite3" && f.Result != want {
				t.Errorf("%s: %+v, want %s", version, f, want)
			}
		}
	}
}

func TestWhatAUserCannotSeeIsNeverOK(t *testing.T) {
	p := healthy(t)
	p.Root, p.silent = false, fmt.Errorf("dial: %w", fs.ErrPermission)
	for _, f := range Examine(t.Context(), p.Machine) {
		switch f.Check {
		case "admin socket", "ports 80 and 443", "file limit", "memory limit", "release", "rules":
			if f.Result != Unchecked || f.Next != "run it with sudo" {
				t.Errorf("%+v", f)
			}
		}
	}
}
