package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/store"
	"cutover/rules/transfer"
)

func newRedirectsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redirects",
		Short: "Send visitors of moved content to its new URL",
		Long:  "A redirect says that content has moved to a URL of its own, or that it is gone (410). It goes before a rule for the same place.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRedirectsListCommand(env), newRedirectsSetCommand(env), newRedirectsRemoveCommand(env))
	cmd.AddCommand(newImportCommand(env, transfer.Redirects(), readDemoRedirects), newExportCommand(env, transfer.Redirects(), allRedirects))
	cmd.AddCommand(newDiffCommand(env, transfer.Redirects(), allRedirects), newRedirectsCheckCommand(env))
	return cmd
}

func newRedirectsListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "ls [HOST]",
		Aliases: []string{"list"},
		Short:   "List the redirects",
		Example: "  cutover redirects ls\n  cutover redirects ls shop.example.com -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := optionalHost(args)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				list, err := s.Redirects(cmd.Context(), host)
				if err != nil {
					return err
				}
				return printRedirects(env, list, host)
			})
		},
	}
}

func printRedirects(env *environment, list admin.RedirectList, host string) error {
	if env.output == "json" {
		return printJSON(env, list)
	}
	if len(list.Redirects) > 0 {
		return errors.Join(printTable(env.stdout, redirectHeading(), redirectLines(list.Redirects, list.Problems)), printProblems(env.stdout, list.Problems))
	}
	example, whose := "shop.example.com", ""
	if host != "" {
		example, whose = host, " for "+host
	}
	return errors.Join(
		printProblems(env.stdout, list.Problems),
		say(env.stdout, "There are no redirects%s.\nNext: cutover redirects set %s/old https://%s/new", whose, example, example),
	)
}

func redirectHeading() []string {
	return []string{"ID", "HOST", "PATH", "STATUS", "TO", "KEEPS", "STATE", "NOTE"}
}

func redirectLines(rows []rules.Redirect, problems []rules.Problem) [][]string {
	lines := make([][]string, 0, len(rows))
	for _, r := range rows {
		lines = append(lines, []string{
			idText(r.ID), r.Host, pathText(r.Path, r.Match), strconv.Itoa(r.Status), r.ToURL, keepText(r),
			rowState(r.Enabled, "redirects", idText(r.ID), problems), r.Note,
		})
	}
	return lines
}

func keepText(r rules.Redirect) string {
	switch {
	case r.KeepPath && r.KeepQuery:
		return "path, query"
	case r.KeepPath:
		return "path"
	case r.KeepQuery:
		return "query"
	default:
		return ""
	}
}

// redirectFlags are the columns of a redirect as flags.
type redirectFlags struct {
	rowFlags
	status                       int
	keepPath, keepQuery, enabled bool
	note                         string
}

func newRedirectsSetCommand(env *environment) *cobra.Command {
	var f redirectFlags
	cmd := &cobra.Command{
		Use:   "set HOST[/PATH] TO_URL | HOST[/PATH] --status 410 | --id N [TO_URL]",
		Short: "Make a redirect, or change one",
		Long:  "Make a redirect, or change the one that is there for this host and path. Only what is given changes.",
		Example: `  cutover redirects set old.example.com https://www.example.com --keep-path --keep-query
  cutover redirects set shop.example.com/sale https://shop.example.com/offers --status 302
  cutover redirects set shop.example.com/2019 --status 410        gone
  cutover redirects set --id 4 --enabled=false`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			edit, err := f.edit(cmd, args)
			if err != nil {
				return err
			}
			return change(cmd, env, []store.Edit{edit}, f.dryRun, func(s *session, result store.Result) error {
				return showRedirect(cmd.Context(), env, s, result)
			})
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.status, "status", 0, "301, 302, 307 or 308; or 410 for content that is gone")
	flags.BoolVar(&f.keepPath, "keep-path", false, "append what follows PATH to the path of TO_URL")
	flags.BoolVar(&f.keepQuery, "keep-query", false, "append the query of the request")
	flags.BoolVar(&f.enabled, "enabled", true, "whether the redirect counts at all")
	flags.StringVar(&f.note, "note", "", "a note for other operators")
	return cmd
}

// edit reads [HOST[/PATH]] [TO_URL]; with --id a single argument is TO_URL.
func (f *redirectFlags) edit(cmd *cobra.Command, args []string) (store.Edit, error) {
	if cmd.Flags().Changed("id") && len(args) == 1 {
		args = []string{"", args[0]}
	}
	row, err := f.key(cmd, firstOf(args))
	if err != nil {
		return store.Edit{}, err
	}
	gone := f.status == 410
	switch {
	case len(args) == 2 && gone:
		return store.Edit{}, withHint(&usageError{errors.New("what is gone (410) has no TO_URL")}, "leave out TO_URL, or give another --status")
	case len(args) == 2:
		row["to_url"] = args[1]
	case gone:
		row["to_url"] = ""
	}
	given(cmd, row, "status", "status", f.status)
	given(cmd, row, "keep-path", "keep_path", f.keepPath)
	given(cmd, row, "keep-query", "keep_query", f.keepQuery)
	given(cmd, row, "enabled", "enabled", f.enabled)
	given(cmd, row, "note", "note", f.note)
	return store.Edit{Table: store.TableRedirects, Row: row}, nil
}

func showRedirect(ctx context.Context, env *environment, s *session, result store.Result) error {
	id := changedID(result)
	list, err := s.Redirect(ctx, id)
	if err != nil {
		return err
	}
	if err := confirm("redirects", id, len(list.Redirects) > 0, list.Problems); err != nil {
		return err
	}
	if env.output == "json" {
		return printJSON(env, result)
	}
	return printTable(env.stdout, redirectHeading(), redirectLines(list.Redirects, list.Problems))
}

func newRedirectsRemoveCommand(env *environment) *cobra.Command {
	var f rowFlags
	cmd := &cobra.Command{
		Use:     "rm HOST[/PATH] | --id N",
		Aliases: []string{"remove"},
		Short:   "Take a redirect away",
		Example: "  cutover redirects rm shop.example.com/sale\n  cutover redirects rm --id 4",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneName(cmd, args); err != nil {
				return err
			}
			row, err := f.key(cmd, firstOf(args))
			if err != nil {
				return err
			}
			edits := []store.Edit{{Table: store.TableRedirects, Remove: true, Row: row}}
			return remove(cmd, env, edits, f.dryRun, "the redirect "+describeKey(row))
		},
	}
	f.add(cmd)
	return cmd
}
