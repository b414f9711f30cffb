package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
)

// Exit codes of the program.
const (
	exitFailed = 1 // what was asked for is not true
	exitUsage  = 2 // the command line could not be understood
)

// run is the whole program: it returns the exit code and touches nothing but its arguments.
func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	env := &environment{
		stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv,
		stdoutIsTerminal: isTerminal(stdout), flags: map[string]string{},
	}
	root := newRootCommand(env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	reportError(stderr, err)
	if errors.As(err, new(*usageError)) {
		return exitUsage
	}
	return exitFailed
}

func newRootCommand(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "cutover",
		Short: "Move live traffic from a v1 service to a v2 service",
		Long: `Cutover moves live traffic from a v1 service to a v2 service: domain by domain, path by path, visitor by visitor.

systemd owns ports 80 and 443, certificates come on demand, and the rules live in SQLite, where you can edit them with
the plain sqlite3 program while everything runs.`,
		Example: `  cutover upstreams set v1 http://127.0.0.1:9001   where the old service is
  cutover upstreams set v2 http://127.0.0.1:9002   where the new one is
  cutover rules set shop.example.com --percent 10  give v2 a tenth of the visitors
  cutover explain https://shop.example.com/cart    see where a request goes, and why
  cutover status                                   see how it is doing`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          runRoot,
	}
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withHint(&usageError{err}, "run '"+cmd.CommandPath()+" --help'")
	})
	addGlobalFlags(root, env)
	root.AddCommand(commands(env)...)
	wrapArgumentErrors(root)
	return root
}

// commands lists the verbs in the order of the help text.
func commands(env *environment) []*cobra.Command {
	return []*cobra.Command{
		newServeCommand(env),
		newSuperviseCommand(env),
		newRulesCommand(env),
		newRedirectsCommand(env),
		newUpstreamsCommand(env),
		newDropletsCommand(env),
		newHostsCommand(env),
		newGuardsCommand(env),
		newCertsCommand(env),
		newAppCommand(env),
		newCGIRunCommand(env),
		newDNSRunCommand(env),
		newExplainCommand(env),
		newStatusCommand(env),
		newHistoryCommand(env),
		newUndoCommand(env),
		newRestoreCommand(env),
		newBackupCommand(env),
		newSQLCommand(env),
		newDeployCommand(env),
		newRollbackCommand(env),
		newDoctorCommand(env),
		newConfigCommand(env),
		newUnitsCommand(env),
		newVersionCommand(env),
	}
}

func runRoot(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return withHint(&usageError{fmt.Errorf("there is no verb %q", args[0])}, "run 'cutover --help' for the verbs")
	}
	return cmd.Help()
}

func addGlobalFlags(root *cobra.Command, env *environment) {
	flags := root.PersistentFlags()
	flags.StringVarP(&env.output, "output", "o", "table", "how to print: table or json")
	flags.StringVar(&env.configFile, "config", "", "configuration file (default "+defaultConfigFile+", if it exists)")
	for _, key := range []string{"state_dir", "runtime_dir"} {
		setting, _ := findSetting(key)
		flags.Var(settingFlag{env: env, key: key}, setting.flag(), setting.doc)
	}
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if !slices.Contains([]string{"table", "json"}, env.output) {
			return &usageError{fmt.Errorf("-o must be table or json, not %q", env.output)}
		}
		return nil
	}
}

// wrapArgumentErrors makes a wrong number of arguments a usage error, for every verb below cmd.
func wrapArgumentErrors(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		if check := sub.Args; check != nil {
			sub.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return withHint(&usageError{err}, "run '"+cmd.CommandPath()+" --help'")
				}
				return nil
			}
		}
		wrapArgumentErrors(sub)
	}
}

func reportError(stderr io.Writer, err error) {
	_, _ = fmt.Fprintf(stderr, "cutover: %v\n", err)
	var hinted *hintError
	if errors.As(err, &hinted) && hinted.hint != "" {
		_, _ = fmt.Fprintf(stderr, "hint: %s\n", hinted.hint)
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
