package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cutover/rules/store"
	"cutover/systemd"
	"cutover/systemd/takeover"
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

// runServe loads everything, then takes the sockets into service until ctx ends or another worker has taken over, then
// drains.
func runServe(ctx context.Context, env *environment, c Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	log := newLogger(env.stderr, c)
	line, err := systemd.OpenLine(env.getenv)
	if err != nil {
		return err
	}
	listening := listenToSupervisor(ctx, line, stop, log)
	defer func() { stop(); <-listening }()
	sockets, err := systemd.Inherit(systemd.InheritOptions{Log: log})
	if err != nil {
		return err
	}
	log.Info("starting", slog.String("version", version), slog.Any("sockets", sockets.Describe()))
	successor, err := findPredecessor(ctx, c, line)
	if err != nil {
		return err
	}
	needed := func() {}
	if successor != nil {
		defer successor.Abandon()
		needed = makeExpendable(log) // while another serves
	}
	d, err := openInPlace(ctx, env, c, sockets, systemd.NewNotifier(env.getenv, line), log, successor)
	if err != nil {
		return err
	}
	w := newWorker(d)
	w.needed = needed
	return w.run(ctx, successor)
}

// makeExpendable has the kernel end this process before others when memory runs out, until the function that it returns is
// called. Where that cannot be, the kernel takes the largest.
func makeExpendable(log *slog.Logger) (needed func()) {
	takeBack, err := systemd.MakeExpendable()
	if err != nil {
		log.Debug("the kernel will not be told whom to end first when memory runs out", slog.Any("error", err))
		return func() {}
	}
	return func() {
		if err := takeBack(); err != nil {
			log.Warn("the kernel would end this worker first when memory runs out", slog.Any("error", err))
		}
	}
}

// listenToSupervisor calls stop when the supervisor, if there is one, says so. The channel is closed when that is over.
func listenToSupervisor(ctx context.Context, line *systemd.Line, stop func(), log *slog.Logger) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		if line == nil {
			return
		}
		if err := line.Run(ctx, stop); err != nil {
			log.Error("a stop of the service will not be heard", slog.Any("error", err))
		}
	}()
	return over
}

// findPredecessor returns the way to take over from the worker that serves; nil if there is none. Without a supervisor it is
// not looked for: whoever starts 'serve' by itself stops the old process first.
func findPredecessor(ctx context.Context, c Config, line *systemd.Line) (*takeover.Successor, error) {
	if line == nil {
		return nil, nil
	}
	successor, err := takeover.Find(ctx, c.RuntimeDir, takeover.Worker{PID: os.Getpid(), Version: version, Started: time.Now(), State: takeover.Loading})
	if errors.Is(err, takeover.ErrNone) {
		return nil, nil
	}
	return successor, err
}

// openInPlace loads beside the worker that serves, if there is one. Where the database has to be changed first, that worker
// gives it up earlier.
func openInPlace(ctx context.Context, env *environment, c Config, sockets systemd.Sockets, notifier *systemd.Notifier, log *slog.Logger, successor *takeover.Successor) (*daemon, error) {
	d, err := openDaemon(ctx, c, successor != nil, sockets, notifier, log, env.stderr)
	if !errors.Is(err, store.ErrNeedsWriter) {
		return d, err
	}
	if err := successor.Prepare(); err != nil {
		return nil, err
	}
	return openDaemon(ctx, c, false, sockets, notifier, log, env.stderr)
}
