package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"cutover/cmd/cutover/doctor"
	"cutover/proxy/admin"
	"cutover/rules/store"
	"cutover/systemd/release"
)

func newDoctorCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look over the installation, and say what to do",
		Long: `Look over the installation, and say what to do: units, sockets, limits, modes, clock, the sqlite3 program, ports, the CA, the
running release, the disk, the rules. It changes nothing, and works without a daemon, too.

Run it with sudo to see all; what cannot be seen is "not checked". The exit code is 1 if a check failed; warnings are none.`,
		Example: "  sudo cutover doctor\n  sudo cutover doctor -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			findings := examine(cmd.Context(), env)
			if err := printFindings(env, findings); err != nil {
				return err
			}
			if failed := doctor.Worst(findings); failed > 0 {
				return withHint(fmt.Errorf("%s failed", count(failed, "check")), "do what the lines below 'fail' say, then run it again")
			}
			return nil
		},
	}
}

// examine looks with defaults where the configuration cannot be read.
func examine(ctx context.Context, env *environment) []doctor.Finding {
	finding := doctor.Finding{Check: "configuration", Result: doctor.OK, Found: "read"}
	config, err := env.config()
	if err != nil {
		finding = doctor.Finding{Check: "configuration", Result: doctor.Fail, Found: err.Error(), Next: "mend it, then: cutover serve --check"}
		config = Config{StateDir: "/var/lib/cutover", RuntimeDir: "/run/cutover"}
	}
	return append([]doctor.Finding{finding}, doctor.Examine(ctx, machineFor(config))...)
}

func machineFor(c Config) *doctor.Machine {
	return &doctor.Machine{
		Files: "/", Root: os.Geteuid() == 0, Owner: userNumber("cutover"), Version: version,
		StateDir: c.StateDir, Issuer: c.ACME.Issuer, Directory: c.ACME.Directory, DNSHook: c.ACME.DNS.Command != "",
		Show:   showUnit,
		Run:    runBriefly,
		Status: func(ctx context.Context) (admin.Status, error) { return statusOf(ctx, c) },
		Rules:  func(ctx context.Context) (string, error) { return rulesOnDisk(ctx, c) },
		Reach:  func(ctx context.Context, url string) error { return reach(ctx, c, url) },
		Clock:  clock,
		Disk:   disk,
	}
}

func userNumber(name string) int {
	account, err := user.Lookup(name)
	if err != nil {
		return -1
	}
	number, err := strconv.Atoi(account.Uid)
	if err != nil {
		return -1
	}
	return number
}

func runBriefly(ctx context.Context, name string, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	output, err := exec.CommandContext(ctx, name, arguments...).Output()
	return string(output), err
}

func showUnit(ctx context.Context, unit string) (map[string]string, error) {
	text, err := runBriefly(ctx, "systemctl", "show", unit)
	if err != nil {
		return nil, fmt.Errorf("systemctl cannot tell of %s: %w", unit, err)
	}
	return release.Properties(text), nil
}

func statusOf(ctx context.Context, c Config) (admin.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client := admin.Dial(adminSocket(c))
	defer client.Close()
	return client.Status(ctx)
}

// rulesOnDisk gives up root for good: SQLite makes files beside a database that it only reads.
func rulesOnDisk(ctx context.Context, c Config) (string, error) {
	if err := becomeOwner(c.StateDir); err != nil {
		return "", err
	}
	report, err := store.Check(ctx, c.StateDir)
	return report.String(), err
}

func reach(ctx context.Context, c Config, url string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	roots, err := rootsFrom(c.ACME.Root)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = errors.New("it answers " + response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

// clock asks the kernel whether something keeps it right.
func clock() (now time.Time, synchronised bool, err error) {
	var kernel unix.Timex
	_, err = unix.Adjtimex(&kernel) // with no mode set, it only tells
	return time.Now(), kernel.Status&unix.STA_UNSYNC == 0, err
}

func disk(path string) (doctor.Space, error) {
	var s unix.Statfs_t
	err := unix.Statfs(path, &s)
	return doctor.Space{Bytes: s.Bavail * uint64(s.Bsize), Inodes: s.Ffree, AllInodes: s.Files}, err
}

func printFindings(env *environment, findings []doctor.Finding) error {
	if env.output == "json" {
		return printJSON(env, findings)
	}
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", f.Result, f.Check, oneLine(f.Found)) // kept until Flush
		if f.Next != "" {
			_, _ = fmt.Fprintf(table, "\t\tnext: %s\n", oneLine(strings.TrimSpace(f.Next)))
		}
	}
	return table.Flush()
}
