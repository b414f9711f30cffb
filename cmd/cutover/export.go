package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"cutover/rules"
	"cutover/rules/transfer"
)

// exporter asks a session for all rows of a table.
type exporter[R transfer.Row] func(ctx context.Context, s *session, yield func(*R) error) error

func allRules(ctx context.Context, s *session, yield func(*rules.Rule) error) error {
	return s.ExportRules(ctx, yield)
}

func allRedirects(ctx context.Context, s *session, yield func(*rules.Redirect) error) error {
	return s.ExportRedirects(ctx, yield)
}

func allGuards(ctx context.Context, s *session, yield func(*rules.GuardRow) error) error {
	return s.ExportGuards(ctx, yield)
}

func newExportCommand[R transfer.Row](env *environment, table transfer.Table[R], all exporter[R]) *cobra.Command {
	var format string
	name := table.Name()
	cmd := &cobra.Command{
		Use:   "export [FILE|-]",
		Short: "Write all " + name + " into a file",
		Long: `Write all ` + name + ` into a CSV or JSON file, sorted by host and path, or to the standard output.

'cutover ` + name + ` import FILE --replace' makes the same rows of it. id and updated_at are in JSON alone.`,
		Example: fmt.Sprintf("  cutover %[1]s export %[1]s.csv\n  cutover %[1]s export --format json", name),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := firstOf(args)
			if file == "" {
				file = "-"
			}
			if file == "-" && format == "" {
				format = stdoutFormat(env)
			}
			return exportTo(cmd, env, table, all, file, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "csv or json (default: what the name of FILE ends in, or csv)")
	return cmd
}

// stdoutFormat is CSV unless -o json was given.
func stdoutFormat(env *environment) string {
	if env.output == "json" {
		return string(transfer.JSON)
	}
	return string(transfer.CSV)
}

func exportTo[R transfer.Row](cmd *cobra.Command, env *environment, table transfer.Table[R], all exporter[R], name, flag string) (err error) {
	format, err := chooseFormat(flag, name)
	if err != nil {
		return err
	}
	if name == "-" {
		_, err := exportRows(cmd, env, table, all, format, func() (io.Writer, error) { return env.stdout, nil })
		return err
	}
	// It is opened as the user who runs the command, and emptied only when there are rows to write.
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return withHint(err, "name a file that can be written, or - for the standard output")
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	rows, err := exportRows(cmd, env, table, all, format, func() (io.Writer, error) { return file, emptied(file) })
	if err != nil {
		return err
	}
	return say(env.stderr, "%s written to %s", count(rows, "row"), name)
}

// emptied makes room in a file; a device has none to make.
func emptied(file *os.File) error {
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return err
	}
	return file.Truncate(0)
}

// exportRows writes every row; open is called when the rules can be read.
func exportRows[R transfer.Row](cmd *cobra.Command, env *environment, table transfer.Table[R], all exporter[R], format transfer.Format, open func() (io.Writer, error)) (rows int, err error) {
	err = withSession(cmd, env, func(s *session) error {
		out, err := open()
		if err != nil {
			return err
		}
		writer := table.NewWriter(out, format)
		err = all(cmd.Context(), s, func(row *R) error {
			rows++
			return writer.Write(row)
		})
		if err != nil {
			return fmt.Errorf("the export is not whole: %w", err)
		}
		return writer.Close()
	})
	return rows, err
}
