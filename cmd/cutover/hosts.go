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
		Short: "Say what a host does about https and certificates",
		Long: `A host needs a row here only where it differs from the defaults: clear text is served as it is, no HSTS is sent, a certificate
is issued for names that rules know exactly, and TLS ends here.

A row may be for *.example.com, which is one label, or for *. The most specific row holds: exact host, then *.parent, then *.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
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
		say(env.stdout, "%s from the defaults: clear text is served as it is, without HSTS; certificates for names that rules know.\nNext: cutover hosts set %s --https redirect", what, example),
	)
}

func hostHeading() []string {
	return []string{"HOST", "HTTPS", "HSTS", "CERTIFICATE", "TLS", "STATE", "NOTE"}
}

func hostLines(rows []rules.Host, problems []rules.Problem) [][]string {
	lines := make([][]string, 0, len(rows))
	for _, h := range rows {
		hsts := "off"
		if h.HSTS > 0 {
			hsts = strconv.FormatInt(h.HSTS, 10) + "s"
		}
		lines = append(lines, []string{h.Host, string(h.HTTPS), hsts, h.Certificate, string(h.TLS), rowState(true, "hosts", h.Host, problems), h.Note})
	}
	return lines
}

func newHostsSetCommand(env *environment) *cobra.Command {
	var https, certificate, tls, note string
	var hsts int64
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "set HOST",
		Short: "Set what a host does about https and certificates",
		Long: `Set what a host does about https and certificates. Only what is given changes.

Requests in clear text are redirected only once a certificate can be served for the host. Browsers remember HSTS for as
long as it says, so begin with a few minutes.

A certificate is issued for names that rules, redirects or hosts know exactly (auto), for every name that the row holds for (any),
or for none (off: what is stored is served; file:NAME: NAME.crt and NAME.key are, of the folder that certificate_dir names).
With --tls passthrough a TLS connection goes on to the upstream as it is, which needs a certificate of its own.`,
		Example: `  cutover hosts set shop.example.com --https redirect
  cutover hosts set shop.example.com --hsts 300
  cutover hosts set '*.customers.example.com' --certificate any
  cutover hosts set shop.example.com --certificate file:shop
  cutover hosts set mail.example.com --tls passthrough`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := parseHostArgument(args[0])
			if err != nil {
				return err
			}
			row := map[string]any{"host": host}
			given(cmd, row, "https", "https", https)
			given(cmd, row, "hsts", "hsts", hsts)
			given(cmd, row, "certificate", "certificate", certificate)
			given(cmd, row, "tls", "tls", tls)
			given(cmd, row, "note", "note", note)
			edits := []store.Edit{{Table: store.TableHosts, Row: row}}
			return change(cmd, env, edits, dryRun, func(s *session, result store.Result) error {
				return showHost(cmd.Context(), env, s, host, result)
			})
		},
	}
	cmd.Flags().StringVar(&https, "https", "", "off: serve clear text as it is; redirect: send it to https")
	cmd.Flags().Int64Var(&hsts, "hsts", 0, "max-age of Strict-Transport-Security in seconds; 0 for none")
	cmd.Flags().StringVar(&certificate, "certificate", "", "auto, any, off or file:NAME: which certificate is served, and whether one is issued")
	cmd.Flags().StringVar(&tls, "tls", "", "terminate: TLS ends here; passthrough: at the upstream")
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
