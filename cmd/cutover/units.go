package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"cutover/systemd/units"
)

func newUnitsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "units",
		Short: "Print or install the systemd units",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return printUnits(env) },
	}
	cmd.AddCommand(newUnitsInstallCommand(env))
	return cmd
}

func printUnits(env *environment) error {
	files, err := units.Files(units.Options{})
	if err != nil {
		return err
	}
	if env.output == "json" {
		return printJSON(env, files)
	}
	for _, file := range files {
		if _, err := fmt.Fprintf(env.stdout, "# %s\n%s\n", file.Name, file.Text); err != nil {
			return err
		}
	}
	return nil
}

func newUnitsInstallCommand(env *environment) *cobra.Command {
	dir, options := "/etc/systemd/system", units.Options{}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Write the units, and say which changed",
		Long: `Write the units to /etc/systemd/system, and say which changed. cutover.sysusers is for
'systemd-sysusers /etc/systemd/system/cutover.sysusers', which makes the user that the service runs as.

Nothing is started, stopped or enabled. Never restart a .socket unit on a live machine: a changed .service takes effect
with 'systemctl daemon-reload' and the next 'systemctl restart cutover'.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			changed, err := units.Install(dir, options)
			if err != nil {
				return withHint(err, "run it as root, or give another folder with --dir")
			}
			for _, name := range changed {
				_, _ = fmt.Fprintln(env.stdout, "written:", name)
			}
			if len(changed) == 0 {
				_, _ = fmt.Fprintln(env.stdout, "all units are up to date")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", dir, "folder of the units")
	cmd.Flags().StringVar(&options.Binary, "binary", "", "path of the program in the units (default /opt/cutover/cutover)")
	cmd.Flags().BoolVar(&options.Admin, "admin", false, "let the service have cutover-admin.socket: the admin API on TCP, with API keys")
	return cmd
}
