package main

import (
	"errors"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"cutover/systemd/apps"
	"cutover/systemd/release"
)

func newAppCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "app",
		Short: "Programs that systemd runs for Cutover: add, deploy, roll back",
		Long: `A managed program is run by systemd, as a user of its own, and gets its listening socket from there. It is started at boot, or by
the first request, once however many wait; started anew when it dies; and none of this ends or waits when Cutover restarts.

What is said of it is in /etc/cutover/apps/NAME.toml, which is root's. Its target is app:NAME, or cgi:NAME of a CGI program.`,
		Example: `  sudo cutover app add shop --exec "/opt/shop/shop --workers 4" --user shop --health /up
  sudo cutover upstreams set v2 app:shop
  sudo cutover app deploy shop ./shop-new
  sudo cutover app rollback shop
  sudo cutover app ls`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAppListCommand(env), newAppShowCommand(env), newAppAddCommand(env), newAppDeployCommand(env),
		newAppRollbackCommand(env), newAppRestartCommand(env), newAppRemoveCommand(env))
	return cmd
}

// appTimes are the flags that say how long something may take.
type appTimes struct{ patience, drain time.Duration }

func (t *appTimes) addPatience(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&t.patience, "timeout", time.Minute, "how long it may take until it is healthy")
}

func (t *appTimes) addDrain(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&t.drain, "drain", time.Minute, "how long requests of the executable before may take to end")
}

// withManager runs work as root.
func withManager(env *environment, times appTimes, work func(*apps.Manager) error) error {
	if os.Geteuid() != 0 {
		return withHint(errors.New("this needs root"), "run the command with sudo")
	}
	syscall.Umask(0o022)           // the proxy and the programs must see what is made
	signal.Ignore(syscall.SIGPIPE) // whoever reads the progress may go
	progress := newMeter(env)
	err := work(&apps.Manager{
		Places: apps.Standard(), Patience: times.patience, Drain: times.drain, Progress: progress.line,
		Say: func(format string, values ...any) {
			progress.wipe()
			_ = say(env.stdout, format, values...)
		},
	})
	progress.clear()
	return withHint(err, appHint(err))
}

func appHint(err error) string {
	var unhealthy *apps.Unhealthy
	var lingers *apps.Lingers
	switch {
	case errors.As(err, &lingers):
		return "see what it does, then end it: systemctl status '" + lingers.Unit + "'; systemctl kill -s KILL '" + lingers.Unit + "'"
	case errors.As(err, &unhealthy):
		return "read what it says: journalctl -n 50 -u '" + unhealthy.Unit + "'"
	case errors.Is(err, release.ErrBusy):
		return "wait for it to end"
	case errors.Is(err, apps.ErrTemplates):
		return "sudo cutover units install && sudo systemctl daemon-reload"
	case errors.Is(err, apps.ErrThere):
		return "edit /etc/cutover/apps/NAME.toml, then: sudo cutover app restart NAME; or begin anew: sudo cutover app rm NAME"
	case errors.Is(err, apps.ErrUnknown):
		return "those that there are: sudo cutover app ls"
	case errors.Is(err, apps.ErrUnfinished):
		return "begin anew: sudo cutover app rm NAME, then cutover app add"
	case errors.Is(err, apps.ErrFirst):
		return "a rollback goes back to what served before a deploy: sudo cutover app show NAME"
	case errors.Is(err, fs.ErrNotExist):
		return "is the path right? It must be absolute in --exec"
	}
	return "see: cutover app add --help"
}

func newAppListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the programs",
		Example: "  sudo cutover app ls\n  sudo cutover app ls -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withManager(env, appTimes{}, func(m *apps.Manager) error {
				list, err := m.List(cmd.Context())
				if err != nil {
					return err
				}
				return printApps(env, list)
			})
		},
	}
}

func printApps(env *environment, list []apps.Status) error {
	if env.output == "json" {
		return printJSON(env, list)
	}
	if len(list) == 0 {
		return say(env.stdout, "There is no program.\nNext: sudo cutover app add NAME --exec \"/path/to/program\" --user USER")
	}
	lines := make([][]string, 0, len(list))
	for _, s := range list {
		state := s.State
		if s.Problem != "" {
			state = s.Problem
		}
		if s.Beside != "" {
			state += "; up, too: " + s.Beside
		}
		lines = append(lines, []string{s.Name, s.Target, state, number(s.PID), strconv.Itoa(s.Restarts), s.Slot, s.App.User, s.Runs})
	}
	return printTable(env.stdout, []string{"NAME", "TARGET", "STATE", "PID", "RESTARTS", "SLOT", "USER", "RUNS"}, lines)
}

// number leaves out what is not there.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func newAppShowCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Show how a program is, and what is said of it",
		Example: "  sudo cutover app show shop",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withManager(env, appTimes{}, func(m *apps.Manager) error {
				status, err := m.Show(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return printApp(env, status)
			})
		},
	}
}

func printApp(env *environment, s apps.Status) error {
	if env.output == "json" {
		return printJSON(env, s)
	}
	return printTable(env.stdout, []string{"NAME", s.Name}, [][]string{
		{"target", s.Target},
		{"state", s.State},
		{"process", number(s.PID)},
		{"restarts", strconv.Itoa(s.Restarts)},
		{"slot", s.Slot},
		{"runs", s.Runs},
		{"before", s.Before},
		{"beside", beside(s.Beside)},
		{"command", strings.Join(s.App.Exec, " ")},
		{"user", s.App.User},
		{"protocol", s.App.Protocol},
		{"health", s.App.Health},
		{"socket", s.Socket},
		{"connections", strconv.Itoa(s.Accepted) + " accepted, " + strconv.Itoa(s.Waiting) + " waiting"},
		{"log", "journalctl -u '" + s.Unit + "'"},
	})
}

// beside says what a slot is about that is up and does not serve.
func beside(unit string) string {
	if unit == "" {
		return ""
	}
	return unit + " is up: a deploy is under way, or was cut off; the next deploy or restart ends it"
}

func newAppRestartCommand(env *environment) *cobra.Command {
	var times appTimes
	cmd := &cobra.Command{
		Use:   "restart NAME",
		Short: "Start a program anew, with what its file says now",
		Long: `Start a program anew, with what /etc/cutover/apps/NAME.toml says now. Requests wait meanwhile; those that it is at may be cut,
as the program pleases. 'cutover app deploy NAME FILE' with the same executable cuts none.`,
		Example: "  sudo cutover app restart shop",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withManager(env, times, func(m *apps.Manager) error {
				if err := m.Restart(cmd.Context(), args[0]); err != nil {
					return err
				}
				return say(env.stdout, "%s runs", args[0])
			})
		},
	}
	times.addPatience(cmd)
	return cmd
}

func newAppRemoveCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"remove"},
		Short:   "End a program, and forget it and the executables that were deployed",
		Example: "  sudo cutover app rm shop",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withManager(env, appTimes{}, func(m *apps.Manager) error {
				if err := m.Remove(cmd.Context(), args[0]); err != nil {
					return err
				}
				return say(env.stdout, "%s is gone. Targets app:%s or cgi:%s answer no more: cutover status", args[0], args[0], args[0])
			})
		},
	}
}
