package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"cutover/cmd/cutover/sqlprompt"
	"cutover/rules/store"
)

func newSQLCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "sql [SQL…]",
		Short: "Open a prompt on the rules, as the sqlite3 program does",
		Long: `Open an SQL prompt on rules.db, while Cutover runs or not. A change is in force about 10 ms after its COMMIT.

It is SQLite as Cutover has it, whatever sqlite3 program the machine has. With SQL as arguments, or piped in, it runs that and
ends at the first error with status 1. Files are read and written as the owner of the state directory.

  .tables  .schema [NAME]  .mode table|json|csv  .backup FILE  .restore FILE  .read FILE  .help  .quit`,
		Example: `  cutover sql
  cutover sql "SELECT * FROM v_status" -o json
  cutover sql "UPDATE rules SET percent=100 WHERE host=idna('bücher.example.com')"
  cutover sql '.backup /var/backups/rules.db'
  cutover sql <changes.sql`,
		Args: cobra.ArbitraryArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if !slices.Contains([]string{"table", "json", "csv"}, env.output) {
				return &usageError{fmt.Errorf("-o must be table, json or csv here, not %q", env.output)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := env.config()
			if err != nil {
				return err
			}
			if err := becomeOwner(config.StateDir); err != nil {
				return err
			}
			path := filepath.Join(config.StateDir, store.File)
			err = sqlprompt.Run(cmd.Context(), sqlprompt.Options{
				Path: path, In: env.stdin, Out: env.stdout, Err: env.stderr, Mode: sqlprompt.Mode(env.output),
			}, args)
			if errors.Is(err, fs.ErrNotExist) {
				return withHint(err, "the first start makes the database: cutover rules ls, or systemctl start cutover")
			}
			return withHint(err, "'cutover sql .tables' lists what there is; 'cutover sql .help' the commands")
		},
	}
}
