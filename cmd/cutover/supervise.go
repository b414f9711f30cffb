package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"cutover/systemd"
)

// endTime is what a worker needs to end, beside its drain. With the longest drain that the shipped unit allows it is less than
// TimeoutStopSec=, when systemd kills the supervisor and nobody else.
const endTime = 4 * time.Second

func newSuperviseCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "supervise",
		Short: "Run 'serve' so that a restart is an upgrade",
		Long: `Run 'cutover serve' as a worker, so that 'systemctl restart cutover' is an upgrade that nobody notices.

It is what cutover.service runs. At a restart it leaves at once; its worker serves on until the worker of the next one has
loaded everything and takes over. At a stop it has every worker finish what it has, and ends.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := env.config()
			if err != nil {
				return err
			}
			program, err := ownProgram()
			if err != nil {
				return err
			}
			supervisor := systemd.Supervisor{
				Program: program, Arguments: workerArguments(env), MakeRoom: systemd.MakeRoom(cmd.Context()),
				StopAtMost: c.DrainTimeout + endTime, Log: newLogger(env.stderr, c),
			}
			err = supervisor.Run(cmd.Context())
			if errors.Is(err, systemd.ErrWorkerEnded) {
				newLogger(env.stderr, c).Error("the worker has ended; systemd starts another", slog.Any("error", err))
			}
			return withHint(err, "journalctl -u cutover -n 50 says why")
		},
	}
	addSettingFlags(cmd, env)
	return cmd
}

// ownProgram returns the file that this process runs: a release, not the symlink to it, which may point to another by now.
func ownProgram() (string, error) {
	path, err := os.Executable()
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", fmt.Errorf("find the program that runs: %w", err)
	}
	return path, nil
}

// workerArguments are those of this process, for serve.
func workerArguments(env *environment) []string {
	arguments := []string{"serve"}
	if env.configFile != "" {
		arguments = append(arguments, "--config="+env.configFile)
	}
	for key, value := range env.flags {
		s, _ := findSetting(key)
		arguments = append(arguments, "--"+s.flag()+"="+value)
	}
	slices.Sort(arguments[1:])
	return arguments
}
