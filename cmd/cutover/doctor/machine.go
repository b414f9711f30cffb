package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cutover/proxy/admin"
)

// state looks at owners and modes: keys and rules are for the service alone.
func (x *examination) state(context.Context) {
	info, err := os.Stat(x.path(x.StateDir))
	switch {
	case os.IsNotExist(err):
		x.fail("state", "there is no "+x.StateDir, "sudo install -d -m 700 -o cutover -g cutover "+x.StateDir)
		return
	case err != nil:
		x.unseen("state", err.Error())
		return
	case x.Owner < 0:
		x.fail("state", "there is no user cutover", "sudo systemd-sysusers /etc/systemd/system/cutover.sysusers")
		return
	case ownerOf(info) != x.Owner:
		x.fail("state", fmt.Sprintf("%s belongs to user %d, not to cutover", x.StateDir, ownerOf(info)), "sudo chown -R cutover:cutover "+x.StateDir)
		return
	}
	x.files()
}

func (x *examination) files() {
	count, wrong := 0, []string(nil)
	err := filepath.WalkDir(x.path(x.StateDir), func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // such as SQLite's log, which comes and goes
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		count++
		if info.Mode().Perm()&0o077 != 0 || ownerOf(info) != x.Owner {
			wrong = append(wrong, fmt.Sprintf("%s (%o, user %d)", path, info.Mode().Perm(), ownerOf(info)))
		}
		return nil
	})
	switch {
	case err != nil:
		x.unseen("state", err.Error())
	case len(wrong) > 0:
		x.fail("state", fmt.Sprintf("%d of %d files are open to others or not cutover's, first %s", len(wrong), count, wrong[0]),
			fmt.Sprintf("sudo chown -R cutover:cutover %s && sudo chmod -R go= %s", x.StateDir, x.StateDir))
	default:
		x.ok("state", fmt.Sprintf("%s and %d files in it are for cutover alone", x.StateDir, count-1))
	}
}

const mebibyte = 1 << 20

func (x *examination) disk(context.Context) {
	space, err := x.Disk(x.path(x.StateDir))
	found := fmt.Sprintf("%d MiB are free for %s", space.Bytes/mebibyte, x.StateDir)
	next := "free some space there: edits are refused, and certificates cannot be stored, when it is full"
	switch {
	case err != nil:
		x.unseen("disk", err.Error())
	case space.Bytes < 50*mebibyte:
		x.fail("disk", found, next)
	case space.AllInodes > 0 && space.Inodes < 1000:
		x.fail("disk", fmt.Sprintf("only %d files more fit on the disk of %s", space.Inodes, x.StateDir), next)
	case space.Bytes < 500*mebibyte:
		x.warn("disk", found, next)
	default:
		x.ok("disk", found)
	}
}

// clock: certificates and scheduled rules go by it.
func (x *examination) clock(context.Context) {
	now, synchronised, err := x.Clock()
	built, known := time.Parse("20060102150405", strings.SplitN(x.Version, "+", 2)[0])
	found := now.UTC().Format(time.RFC3339)
	switch {
	case known == nil && now.Before(built.Add(-24*time.Hour)):
		x.fail("clock", found+", and this release was built later, "+built.Format(time.DateOnly), "set the clock: timedatectl")
	case err != nil:
		x.unseen("clock", err.Error())
	case !synchronised:
		x.warn("clock", found+", not synchronised: a wrong clock breaks certificates and scheduled rules", "sudo timedatectl set-ntp true")
	default:
		x.ok("clock", found+", synchronised")
	}
}

// sqlite warns of sqlite3 programs that can lose what was committed: 3.7.0 to 3.51.2, but for the versions that got the repair.
func (x *examination) sqlite(ctx context.Context) {
	text, err := x.Run(ctx, "sqlite3", "--version")
	if err != nil {
		x.ok("sqlite3", "not here; sudo cutover sql brings its own")
		return
	}
	version, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	number, known := versionNumber(version)
	switch {
	case !known:
		x.add("sqlite3", Unchecked, fmt.Sprintf("it says %q of itself", text), "")
	case number < 3_031_000:
		x.warn("sqlite3", version+" is too old for the rules", "use: sudo cutover sql")
	case !repaired(number):
		x.warn("sqlite3", version+" can lose committed rows while Cutover writes", "use: sudo cutover sql; or 'Editing with sqlite3 safely' in docs/rules.md")
	default:
		x.ok("sqlite3", version)
	}
}

// versionNumber turns 3.51.3 into 3051003, as SQLite does.
func versionNumber(text string) (number int, known bool) {
	parts := strings.Split(text, ".")
	if len(parts) < 3 {
		return 0, false
	}
	for _, part := range parts[:3] {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || n > 999 {
			return 0, false
		}
		number = number*1000 + n
	}
	return number, true
}

func repaired(number int) bool {
	between := func(low, high int) bool { return number >= low && number < high }
	return number >= 3_051_003 || between(3_050_007, 3_051_000) || between(3_044_006, 3_045_000)
}

// acme: the CA must be there, and must find us.
func (x *examination) acme(ctx context.Context) {
	if x.Issuer != "acme" {
		x.ok("certificates", "no public CA is asked (acme.issuer is "+x.Issuer+")")
		return
	}
	open := 0
	for _, name := range []string{"http", "https"} {
		if values, err := x.Show(ctx, "cutover-"+name+".socket"); err == nil && values["ActiveState"] == "active" {
			open++
		}
	}
	if open == 0 {
		x.fail("certificates", "neither port 80 nor 443 is open: the CA cannot look", "sudo systemctl start cutover-http.socket cutover-https.socket")
		return
	}
	if err := x.Reach(ctx, x.Directory); err != nil {
		x.warn("certificates", x.Directory+" cannot be reached: "+err.Error(), "look at DNS and firewall; stored certificates are served all the same")
		return
	}
	x.ok("certificates", x.Directory+" answers, and it can reach a port here if no firewall forbids it")
}

// expiry looks at the certificates that are served: what ends soon was not renewed in time.
func (x *examination) expiry(context.Context) {
	const check = "expiry"
	if !x.answered || x.status.Certificates == nil {
		x.unseen(check, "no daemon answers")
		return
	}
	c := x.status.Certificates
	expired := c.States[admin.CertificateExpired]
	switch {
	case c.Problem != "":
		x.fail(check, "nothing is issued or renewed: "+c.Problem, "correct acme.profile, then: sudo systemctl restart cutover")
	case expired > 0:
		x.fail(check, fmt.Sprintf("%d certificates have ended, first %s", expired, x.firstEnding()), "cutover certs ls; cutover certs retry NAME")
	case c.EndingTotal > 0:
		x.warn(check, fmt.Sprintf("%d certificates end within 7 days, first %s", c.EndingTotal, x.firstEnding()), "cutover certs show NAME says why; cutover certs retry NAME")
	case len(c.Files) > 0:
		x.warn(check, c.Files[0].Name+" cannot be read: "+c.Files[0].Problem, "mend the files; they are looked at every few seconds")
	case c.BackedOffTotal > 0:
		x.warn(check, fmt.Sprintf("%d names are held back after a failure, first %s", c.BackedOffTotal, heldFirst(c)), "cutover status says why; cutover certs retry NAME")
	default:
		x.ok(check, fmt.Sprintf("none of %d certificates ends within 7 days, no name is held back", c.Stored))
	}
}

// errorPages looks at those of the operator's own.
func (x *examination) errorPages(context.Context) {
	const check = "error pages"
	if !x.answered || x.status.ErrorPages == nil {
		x.unseen(check, "no daemon of this release answers")
		return
	}
	p := x.status.ErrorPages
	switch {
	case len(p.Problems) > 0:
		first := p.Problems[0]
		x.warn(check, fmt.Sprintf("%s cannot be used: %s", filepath.Join(p.Dir, first.File), first.Problem), "mend it: the folder is looked at every few seconds; cutover status lists all")
	case p.Dir == "":
		x.ok(check, "the built-in one: error_pages is empty")
	case p.Pages == 0:
		x.ok(check, "the built-in one: there is none of your own in "+p.Dir)
	default:
		x.ok(check, fmt.Sprintf("%d of your own in %s", p.Pages, p.Dir))
	}
}

func (x *examination) firstEnding() string {
	if list := x.status.Certificates.Ending; len(list) > 0 {
		return list[0].Name
	}
	return "unknown"
}

func heldFirst(c *admin.CertificateStatus) string {
	if len(c.BackedOff) > 0 {
		return c.BackedOff[0].Name
	}
	return "unknown"
}
