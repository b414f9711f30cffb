package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cutover/proxy"
	"cutover/proxy/admin"
	"cutover/rules/store"
	"cutover/systemd"
)

// checkLine is one thing that 'serve --check' tested.
type checkLine struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

// runCheck tests what this binary needs in order to serve, and writes nothing.
func runCheck(ctx context.Context, env *environment, c Config) error {
	if _, err := os.Stat(c.StateDir); err == nil {
		// SQLite makes files beside a database that it only reads; they must be the daemon's.
		if err := becomeOwner(c.StateDir); err != nil {
			return err
		}
	}
	lines := []checkLine{
		checkConfiguration(c),
		checkRules(ctx, c),
		checkFiles(c),
		checkSockets(env),
	}
	if err := printCheck(env, lines); err != nil {
		return err
	}
	for _, line := range lines {
		if !line.OK {
			return withHint(fmt.Errorf("check failed: %s: %s", line.What, line.Text), "mend it before deploying; what runs now is untouched")
		}
	}
	return nil
}

// shippedStop is TimeoutStopSec= of cutover.service, less what ending takes beside the drain.
const shippedStop = 35 * time.Second

// checkConfiguration has been read by now; what can still be wrong is how it goes with the unit.
func checkConfiguration(c Config) checkLine {
	if c.DrainTimeout > shippedStop {
		return checkLine{"configuration", true, fmt.Sprintf("read; drain_timeout is %v, so TimeoutStopSec= of cutover.service must be above it (40 as shipped): systemctl edit cutover", c.DrainTimeout)}
	}
	return checkLine{"configuration", true, "read"}
}

func checked(what, text string, err error) checkLine {
	if err != nil {
		return checkLine{what, false, err.Error()}
	}
	return checkLine{what, true, text}
}

func checkRules(ctx context.Context, c Config) checkLine {
	report, err := store.Check(ctx, c.StateDir)
	return checked("rules", report.String(), err)
}

// checkFiles reads every file that the configuration names.
func checkFiles(c Config) checkLine {
	pages := checkPages(c.ErrorPages)
	_, roots := systemRootsAnd(c.UpstreamCA)
	_, acme := rootsFrom(c.ACME.Root)
	_, key := readOptional(c.ACME.AccountKey)
	keys := (&admin.Keys{Path: c.AdminKeys}).Check()
	return checked("files", "readable", errors.Join(pages, roots, acme, key, keys))
}

// checkPages says what is wrong with error pages. A daemon serves without them; who deploys wants to know.
func checkPages(dir string) error {
	status := proxy.OpenPages(dir, nil).Status()
	var problems []error
	if status.Missing && dir != defaultErrorPages {
		problems = append(problems, fmt.Errorf("error_pages: there is no folder %s", dir))
	}
	for _, p := range status.Problems {
		problems = append(problems, fmt.Errorf("error_pages: %s: %s", filepath.Join(dir, p.File), p.Problem))
	}
	return errors.Join(problems...)
}

// checkSockets looks at the inherited sockets; run by hand there are none, and that is no mistake.
func checkSockets(env *environment) checkLine {
	if env.getenv("LISTEN_FDS") == "" {
		return checkLine{"sockets", true, "none inherited: not tested"}
	}
	sockets, err := systemd.Inherit(systemd.InheritOptions{})
	return checked("sockets", fmt.Sprint(sockets.Describe()), err)
}

func printCheck(env *environment, lines []checkLine) error {
	if env.output == "json" {
		return printJSON(env, lines)
	}
	for _, line := range lines {
		mark := "ok  "
		if !line.OK {
			mark = "FAIL"
		}
		if _, err := fmt.Fprintf(env.stdout, "%s %s: %s\n", mark, line.What, line.Text); err != nil {
			return err
		}
	}
	return nil
}

// adminSocket is where the daemon and the CLI meet.
func adminSocket(c Config) string { return filepath.Join(c.RuntimeDir, "admin.sock") }
