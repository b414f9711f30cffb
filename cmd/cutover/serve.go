package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"cutover/systemd"
)

func newServeCommand(env *environment) *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve on the sockets that systemd hands over",
		Long: `Serve on the sockets that systemd hands over, until SIGTERM.

It is started by cutover.service; see 'cutover units'. By hand:

  systemd-socket-activate -l 8080 -l 8443 --fdname=http:https cutover serve

With --check nothing is served: the configuration, the database and, where there are any, the sockets are tested, beside
a running process if need be. The exit code says whether this binary could take over.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.config()
			if err != nil {
				return err
			}
			if check {
				return runCheck(cmd.Context(), env, c)
			}
			return runServe(cmd.Context(), env, c)
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "test configuration, database and sockets, then exit")
	addSettingFlags(cmd, env)
	return cmd
}

// runServe loads everything, then takes the sockets into service until ctx ends, then drains.
func runServe(ctx context.Context, env *environment, c Config) error {
	log := newLogger(env.stderr, c)
	sockets, err := systemd.Inherit(systemd.InheritOptions{Log: log})
	if err != nil {
		return err
	}
	notifier := systemd.NewNotifier(env.getenv)
	d, err := openDaemon(ctx, c, sockets, notifier, log, env.stderr)
	if err != nil {
		return err
	}
	log.Info("starting", slog.String("version", version), slog.Any("sockets", sockets.Describe()))
	return d.run(ctx)
}
