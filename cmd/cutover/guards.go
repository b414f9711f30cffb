package main

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/store"
	"cutover/rules/transfer"
)

func newGuardsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "guards",
		Short: "Say who may come, how often, and with which password",
		Long: `A guard stands before a host and a path and what is below it. The most specific one holds alone: exact host before *.parent
before *, then the longest path. It decides before redirects and rules do.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGuardsListCommand(env), newGuardsSetCommand(env), newGuardsRemoveCommand(env), newGuardsPasswordCommand(env))
	cmd.AddCommand(newImportCommand(env, transfer.Guards(), nil), newExportCommand(env, transfer.Guards(), allGuards))
	cmd.AddCommand(newDiffCommand(env, transfer.Guards(), allGuards))
	return cmd
}

func newGuardsListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "ls [HOST]",
		Aliases: []string{"list"},
		Short:   "List the guards",
		Long:    "List the guards. With -o json the hashes of passwords are shown as well.",
		Example: "  cutover guards ls\n  cutover guards ls shop.example.com -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := optionalHost(args)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				list, err := s.Guards(cmd.Context(), host)
				if err != nil {
					return err
				}
				return printGuards(env, list, host)
			})
		},
	}
}

func printGuards(env *environment, list admin.GuardList, host string) error {
	if env.output == "json" {
		return printJSON(env, list)
	}
	if len(list.Guards) > 0 {
		return errors.Join(printTable(env.stdout, guardHeading(), guardLines(list.Guards, list.Problems)), printProblems(env.stdout, list.Problems))
	}
	example, whose := "shop.example.com", ""
	if host != "" {
		example, whose = host, " for "+host
	}
	return errors.Join(
		printProblems(env.stdout, list.Problems),
		say(env.stdout, "There are no guards%s: everybody may come, as often as they like.\nNext: cutover guards set %s/admin --allow 192.0.2.0/24", whose, example),
	)
}

func guardHeading() []string {
	return []string{"ID", "HOST", "PATH", "ALLOW", "DENY", "RATE", "USERS", "STATE", "NOTE"}
}

func guardLines(rows []rules.GuardRow, problems []rules.Problem) [][]string {
	lines := make([][]string, 0, len(rows))
	for _, g := range rows {
		lines = append(lines, []string{
			idText(g.ID), g.Host, g.Path, g.Allow, g.Deny, rateText(g), userNames(g.Users), rowState(g.Enabled, "guards", idText(g.ID), problems), g.Note,
		})
	}
	return lines
}

func rateText(g rules.GuardRow) string {
	if g.Rate == 0 {
		return ""
	}
	text := strconv.FormatFloat(g.Rate, 'f', -1, 64) + "/s"
	if g.Burst > 0 {
		text += " burst " + idText(g.Burst)
	}
	return text
}

// userNames takes the hashes out of a list of users.
func userNames(users string) string {
	return strings.Join(slices.Sorted(maps.Keys(parseUsers(users))), " ")
}

// parseUsers returns the pairs of a list of users by their names.
func parseUsers(users string) map[string]string {
	pairs := map[string]string{}
	for _, pair := range strings.Fields(users) {
		name, _, _ := strings.Cut(pair, ":")
		pairs[name] = pair
	}
	return pairs
}

func newGuardsRemoveCommand(env *environment) *cobra.Command {
	var f guardFlags
	cmd := &cobra.Command{
		Use:     "rm HOST[/PATH] | --id N",
		Aliases: []string{"remove"},
		Short:   "Take a guard away",
		Example: "  cutover guards rm shop.example.com/admin\n  cutover guards rm --id 4",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			row, err := f.key(cmd, args)
			if err != nil {
				return err
			}
			edits := []store.Edit{{Table: store.TableGuards, Remove: true, Row: row}}
			return remove(cmd, env, edits, f.dryRun, "the guard "+describeKey(row))
		},
	}
	f.addKey(cmd)
	return cmd
}
