package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules/store"
	"cutover/rules/transfer"
)

const maxBadLines = 50 // that are listed

// importFlags say what becomes of the rows of a file.
type importFlags struct {
	appending, replacing, partial, dryRun bool
	format, from                          string
}

func newImportCommand[R transfer.Row](env *environment, table transfer.Table[R], demo demoReader[R]) *cobra.Command {
	var f importFlags
	name := table.Name()
	cmd := &cobra.Command{
		Use:   "import FILE|- --append|--replace",
		Short: "Bring many " + name + " in from a file, all at once",
		Long: `Bring many ` + name + ` in from a CSV or JSON file. All come into force at once, or none does.

CSV begins with a line that names columns, in any order; JSON is a list of objects, or one object a line. The columns:
` + strings.Join(table.Columns(), ", ") + `.
A column that is left out, or an empty cell, has the table's default. id and updated_at are passed over.

A row whose ` + table.KeyNames() + ` are there already is changed. With a bad line nothing is changed, unless
--partial is given; the exit status is 1 all the same. With --replace --partial the row of a bad line is removed.`,
		Example: importExamples(name, demo != nil),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			file, err := openImport(cmd.Context(), env, &f, table, demo, args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, file.close()) }()
			return withSession(cmd, env, func(s *session) error { return importRows(cmd.Context(), env, s, table, file, &f) })
		},
	}
	f.add(cmd, demo != nil)
	return cmd
}

func importExamples(name string, demo bool) string {
	text := `  cutover NAME import NAME.csv --append --dry-run
  cutover NAME import NAME.csv --append              add and change, remove nothing
  cutover NAME import NAME.json --replace            remove what the file does not have
  cutover NAME import - --append --format csv <NAME.csv`
	if demo {
		text += "\n  cutover NAME import old.db --append --from " + goProxyDemo
	}
	return strings.ReplaceAll(text, "NAME", name)
}

func (f *importFlags) add(cmd *cobra.Command, demo bool) {
	flags := cmd.Flags()
	flags.BoolVar(&f.appending, "append", false, "add rows and change those that are there; remove none")
	flags.BoolVar(&f.replacing, "replace", false, "make the table what the file is: remove rows that it does not have")
	flags.BoolVar(&f.partial, "partial", false, "leave bad lines out and apply the others")
	addFormat(cmd, &f.format)
	addDryRun(cmd, &f.dryRun)
	if !demo {
		return
	}
	flags.StringVar(&f.from, "from", "", "FILE is the SQLite database of another program: "+goProxyDemo)
}

func (f *importFlags) check() error {
	switch {
	case f.appending == f.replacing:
		return withHint(&usageError{errors.New("say either --append or --replace")}, "--append removes nothing; --replace removes what the file does not have")
	case f.from != "" && f.from != goProxyDemo:
		return withHint(&usageError{fmt.Errorf("--from %q is not known", f.from)}, "there is --from "+goProxyDemo)
	case f.from != "" && f.format != "":
		return withHint(&usageError{errors.New("both --from and --format were given")}, "leave out --format: a database has none")
	}
	return nil
}

func openImport[R transfer.Row](ctx context.Context, env *environment, f *importFlags, table transfer.Table[R], demo demoReader[R], name string) (*source[R], error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	if f.from != "" {
		return openDemo(ctx, table, name, demo)
	}
	return openSource(env, table, name, f.format)
}

// importRows sends the rows of a file, and tells what became of them.
func importRows[R transfer.Row](ctx context.Context, env *environment, s *session, table transfer.Table[R], file *source[R], f *importFlags) error {
	meter := newMeter(env)
	rows, end := file.pipe(table, func(lines int) { meter.show(lines, "rows read") })
	request := admin.ImportRequest{Table: store.Table(table.Name()), Replace: f.replacing, Partial: f.partial, DryRun: f.dryRun}
	result, err := s.Import(ctx, request, rows, func(done int) { meter.show(done, "rows written") })
	broken := end()
	meter.clear()
	if broken != nil {
		return broken // whatever the daemon says of it
	}
	if err != nil {
		return err
	}
	return reportImport(env, file.name, result, f)
}

// reportImport prints what an import did; bad lines are an error.
func reportImport(env *environment, name string, result store.ImportResult, f *importFlags) error {
	if env.output == "json" {
		if err := printJSON(env, result); err != nil {
			return err
		}
		return badLines(result, f)
	}
	for _, warning := range result.Warnings {
		if err := say(env.stderr, "warning: redirect after redirect: %s", oneLine(warning)); err != nil {
			return err
		}
	}
	for _, bad := range result.Bad[:min(len(result.Bad), maxBadLines)] {
		if err := say(env.stderr, "%s:%d: %s", name, bad.Line, oneLine(bad.Reason)); err != nil {
			return err
		}
	}
	if more := result.BadTotal - maxBadLines; more > 0 {
		if err := say(env.stderr, "and %s more", count(more, "bad line")); err != nil {
			return err
		}
	}
	if err := badLines(result, f); err != nil && !result.Applied {
		return err
	}
	tail := ""
	if !result.Applied {
		tail = "; this was a dry run, nothing was changed"
	}
	if err := say(env.stdout, "%s%s", changesText(result), tail); err != nil {
		return err
	}
	return badLines(result, f)
}

func changesText(r store.ImportResult) string {
	return fmt.Sprintf("%d added, %d changed, %d removed, %d unchanged", r.Added, r.Changed, r.Removed, r.Unchanged)
}

// badLines is the error that bad lines are.
func badLines(result store.ImportResult, f *importFlags) error {
	bad := count(result.BadTotal, "bad line")
	switch {
	case result.BadTotal == 0:
		return nil
	case result.Applied:
		return withHint(fmt.Errorf("%s left out, the others are in force", bad), "correct them and import the file again with --append")
	case f.partial:
		return withHint(fmt.Errorf("%s would be left out", bad), "correct them")
	}
	return withHint(fmt.Errorf("nothing was changed: %s", bad), "correct them and import the file again, or leave them out with --partial")
}
