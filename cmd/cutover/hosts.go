package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/store"
)

func newHostsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hosts",
		Short: "Say which hosts are redirected to https",
		Long:  "A host needs a row here only where it differs from the defaults: clear text is served as it is, and no HSTS is sent.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newHostsListCommand(env), newHostsSetCommand(env), newHostsRemoveCommand(env))
	return cmd
}

func newHostsListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "ls [HOST]",
		Aliases: []string{"list"},
		Short:   "List the hosts that differ from the defaults",
		Example: "  cutover hosts ls\n  cutover hosts ls -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := optionalHost(args)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				list, err := s.Hosts(cmd.Context(), host)
				if err != nil {
					return err
				}
				return printHosts(env, list, host)
			})
		},
	}
}

func printHosts(env *environment, list admin.HostList, host string) error {
	if env.output == "json" {
		return printJSON(env, list)
	}
	if len(list.Hosts) > 0 {
		return errors.Join(printTable(env.stdout, hostHeading(), hostLines(list.Hosts, list.Problems)), printProblems(env.stdout, list.Problems))
	}
	example, what := "shop.example.com", "No host differs"
	if host != "" {
		example, what = host, host+" does not differ"
	}
	return errors.Join(
		printProblems(env.stdout, list.Problems),
		say(env.stdout, "%s from the defaults: clear text is served as it is, without HSTS.\nNext: cutover hosts set %s --https redirect", what, example),
	)
}

func hostHeading() []string { return []string{"HOST", "HTTPS", "HSTS", "STATE", "NOTE"} }

func hostLines(rows []rules.Host, problems []rules.Problem) [][]string {
	lines := make([][]string, 0, len(rows))
	for _, h := range rows {
		hsts := "off"
		if h.HSTS > 0 {
			hsts = strconv.FormatInt(h.HSTS, 10) + "s"
		}
		lines = append(lines, []string{h.Host, string(h.HTTPS), hsts, rowState(true, "hosts", h.Host, problems), h.Note})
	}
	return lines
}

func newHostsSetCommand(env *environment) *cobra.Command {
	var https, note string
	var hsts int64
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "set HOST",
		Short: "Set what a host does about https",
		Long: `Set what a host does about https. Only what is given changes.

Requests in clear text are redirected only once a certificate can be served for the host. Browsers remember HSTS for as
long as it says, so begin with a few minutes.`,
		Example: "  cutover hosts set shop.example.com --https redirect\n  cutover hosts set shop.example.com --hsts 300",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := parseHostArgument(args[0])
			if err != nil {
				return err
			}
			row := map[string]any{"host": host}
			given(cmd, row, "https", "https", https)
			given(cmd, row, "hsts", "hsts", hsts)
			given(cmd, row, "note", "note", note)
			edits := []store.Edit{{Table: store.TableHosts, Row: row}}
			return change(cmd, env, edits, dryRun, func(s *session, result store.Result) error {
				return showHost(cmd.Context(), env, s, host, result)
			})
		},
	}
	cmd.Flags().StringVar(&https, "https", "", "off: serve clear text as it is; redirect: send it to https")
	cmd.Flags().Int64Var(&hsts, "hsts", 0, "max-age of Strict-Transport-Security in seconds; 0 for none")
	cmd.Flags().StringVar(&note, "note", "", "a note for other operators")
	addDryRun(cmd, &dryRun)
	return cmd
}

func showHost(ctx context.Context, env *environment, s *session, host string, result store.Result) error {
	list, err := s.Hosts(ctx, host)
	if err != nil {
		return err
	}
	if err := confirm("hosts", host, len(list.Hosts) > 0, list.Problems); err != nil {
		return err
	}
	if env.output == "json" {
		return printJSON(env, result)
	}
	return printTable(env.stdout, hostHeading(), hostLines(list.Hosts, list.Problems))
}

func newHostsRemoveCommand(env *environment) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "rm HOST",
		Aliases: []string{"remove"},
		Short:   "Give a host the defaults again",
		Example: "  cutover hosts rm shop.example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := parseHostArgument(args[0])
			if err != nil {
				return err
			}
			edits := []store.Edit{{Table: store.TableHosts, Remove: true, Row: map[string]any{"host": host}}}
			return remove(cmd, env, edits, dryRun, "the row of host "+host)
		},
	}
	addDryRun(cmd, &dryRun)
	return cmd
}
