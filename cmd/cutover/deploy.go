package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/systemd/release"
)

// releaseRoot is where the units look for the program.
const releaseRoot = "/opt/cutover"

func newDeployCommand(env *environment) *cobra.Command {
	judge, dry, force := judgeTime, false, false
	cmd := &cobra.Command{
		Use:   "deploy FILE",
		Short: "Take a release into use: check, swap, restart, judge, put back if it is worse",
		Long: `Take a release into use: check it beside what runs, swap the symlink, restart, judge, put the old one back if it is worse.

FILE is named cutover-YYYYMMDDHHMMSS, as scripts/build.sh makes it. It is copied to /opt/cutover/releases, where the ten
newest are kept. For the time of --judge it must stay up and ready, and must not be worse than what was before it. What
counts is what Cutover itself causes: faults of the program, connections that could not be accepted, rows of the rules that it
no longer serves; three or more of them, at more than twice the rate of before. Errors of upstreams do not count, unless
requests went well until the swap, and not one of ten does after it.

Told to stop before the swap, it changes nothing; afterwards it goes on to the end. The exit code is 0 only if FILE serves
and was judged good.`,
		Example: "  sudo cutover deploy ./cutover-20261121031500\n  sudo cutover deploy --dry-run ./cutover-20261121031500   only the check",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			done, work := args[0]+" serves", (*release.Deployer).Deploy
			if dry {
				done, work = args[0]+" may be deployed; nothing was changed (--dry-run)", (*release.Deployer).DryRun
			}
			return deployed(env, done, withDeployer(env, judge, force, func(d *release.Deployer) error { return work(d, cmd.Context(), args[0]) }))
		},
	}
	addJudgeFlags(cmd, &judge, &force)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only check FILE beside what runs, change nothing")
	return cmd
}

func newRollbackCommand(env *environment) *cobra.Command {
	judge, force := judgeTime, false
	cmd := &cobra.Command{
		Use:   "rollback [RELEASE]",
		Short: "Go back to the release before, or to another",
		Long: `Go back to the release before the one in use, or to another of /opt/cutover/releases. It is checked, swapped, restarted and
judged as a deploy is. Doing it twice goes forth again.

A release that does not know all that is in force is refused: one with rules schema 1 knows no guards, and would let everybody in.
It says what would be lost; --force goes back all the same.`,
		Example: "  sudo cutover rollback\n  sudo cutover rollback cutover-20261120221100",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			current := ""
			err := withDeployer(env, judge, force, func(d *release.Deployer) error {
				err := d.Rollback(cmd.Context(), strings.Join(args, ""))
				current, _ = d.Folder.Current() // for the text alone
				return err
			})
			return deployed(env, current+" serves", err)
		},
	}
	addJudgeFlags(cmd, &judge, &force)
	return cmd
}

// judgeTime is how long a new release is watched unless told otherwise.
const judgeTime = 30 * time.Second

func addJudgeFlags(cmd *cobra.Command, judge *time.Duration, force *bool) {
	cmd.Flags().BoolVar(force, "force", false, "take a release that does not know all that is in force, such as guards")
	cmd.Flags().DurationVar(judge, "judge", *judge, "how long the new release is watched before it is good")
}

// deployed says how a deploy ended. Nobody may be there to read it: that makes it no failure.
func deployed(env *environment, done string, err error) error {
	if err != nil {
		return withHint(err, deployHint(err))
	}
	_ = say(env.stdout, "%s", done)
	return nil
}

func deployHint(err error) string {
	switch {
	case errors.Is(err, release.ErrBusy):
		return "wait for it to end"
	case errors.Is(err, release.ErrName):
		return "build it with scripts/build.sh"
	case errors.Is(err, release.ErrTaken):
		return "build a release anew, or remove that one if it is not in use"
	case errors.As(err, new(*release.Refused)):
		return "mend what it says above, then deploy again"
	case errors.As(err, new(*release.Forgets)):
		return "guards do not hold until a newer release serves; to go on all the same: --force"
	case errors.As(err, new(*release.NotInstalled)):
		return "scripts/install.sh first; to try Cutover out without systemd: ./run-dev.sh"
	case errors.As(err, new(*release.PutBack)):
		return "read: journalctl -u cutover"
	case errors.Is(err, fs.ErrNotExist):
		return "is the path right? The releases that are here: ls " + releaseRoot + "/releases"
	}
	return "read: journalctl -u cutover; cutover doctor"
}

// withDeployer runs work as root, deaf to what must not stop it half-way.
func withDeployer(env *environment, judge time.Duration, force bool, work func(*release.Deployer) error) error {
	if judge < time.Second {
		return &usageError{fmt.Errorf("--judge must be 1s or more, not %v", judge)}
	}
	if os.Geteuid() != 0 {
		return withHint(errors.New("this needs root"), "run the command with sudo")
	}
	config, err := env.config()
	if err != nil {
		config.RuntimeDir = "/run/cutover" // the release's own check says what is wrong with the configuration
	}
	signal.Ignore(syscall.SIGPIPE) // whoever reads the progress may go
	client := admin.Dial(adminSocket(config))
	defer client.Close()
	progress := newMeter(env)
	defer progress.clear()
	return work(&release.Deployer{
		Folder: release.Folder{Root: releaseRoot},
		System: release.Machine{
			Ask: func(ctx context.Context) (release.Sample, error) {
				defer client.Close() // the next look is at whoever listens by then
				return sample(ctx, client)
			},
			Lost: func(ctx context.Context, schema int) ([]string, error) { return lost(ctx, client, schema) },
		},
		Say: func(format string, values ...any) {
			progress.wipe()
			_ = say(env.stdout, format, values...)
		},
		Progress: progress.line,
		Judge:    judge,
		Force:    force,
	})
}

// sample asks the daemon what a deploy is judged by.
func sample(ctx context.Context, client *admin.Client) (release.Sample, error) {
	status, err := client.Status(ctx)
	if err != nil {
		return release.Sample{}, err
	}
	s := release.Sample{
		PID: status.PID, Version: status.Version, Ready: status.Ready, NotReady: status.NotReady,
		Uptime: time.Duration(status.UptimeSeconds) * time.Second, LastEdit: status.Rules.LastEdit, Problems: status.Rules.ProblemsTotal,
	}
	if t := status.Totals; t != nil {
		s.Counts, s.Failures = true, t.OwnFailures
		s.Outcomes = map[string]release.Outcome{"requests": release.Outcome(t.Requests), "TLS handshakes": release.Outcome(t.Handshakes)}
	}
	return s, nil
}
