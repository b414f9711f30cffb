package main

import (
	"github.com/spf13/cobra"

	"cutover/systemd/apps"
)

func newAppDeployCommand(env *environment) *cobra.Command {
	var times appTimes
	cmd := &cobra.Command{
		Use:   "deploy NAME FILE",
		Short: "Take a new executable of a program into use; no request is lost",
		Long: `Take a new executable of a program into use. FILE is copied to /opt/cutover/apps/NAME and started beside the one that serves, on a
socket of its own. Once it is healthy, new requests go to it; the one before is told to end (SIGTERM) when its requests have ended,
or the time of --drain has. What has changed in /etc/cutover/apps/NAME.toml is taken up, too.

If it does not become healthy, the one before serves on, and the exit code is not 0. Told to stop before the change, it changes
nothing; afterwards it goes on to the end.`,
		Example: "  sudo cutover app deploy shop ./shop-new\n  sudo cutover app deploy shop ./shop-new --timeout 3m",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withManager(env, times, func(m *apps.Manager) error {
				if err := m.Deploy(cmd.Context(), args[0], args[1]); err != nil {
					return err
				}
				return say(env.stdout, "%s serves. To go back: sudo cutover app rollback %s", args[1], args[0])
			})
		},
	}
	times.addPatience(cmd)
	times.addDrain(cmd)
	return cmd
}

func newAppRollbackCommand(env *environment) *cobra.Command {
	var times appTimes
	cmd := &cobra.Command{
		Use:     "rollback NAME",
		Short:   "Go back to the executable before",
		Long:    `Go back to the executable before the one that serves, in the way of a deploy. Doing it twice goes forth again.`,
		Example: "  sudo cutover app rollback shop",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withManager(env, times, func(m *apps.Manager) error {
				if err := m.Rollback(cmd.Context(), args[0]); err != nil {
					return err
				}
				status, err := m.Show(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return say(env.stdout, "%s serves", status.Runs)
			})
		},
	}
	times.addPatience(cmd)
	times.addDrain(cmd)
	return cmd
}
