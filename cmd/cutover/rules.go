package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/store"
	"cutover/rules/transfer"
)

func newRulesCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Say which visitors get v2: by host, path and percent",
		Long: `A rule says, for a host and a path, which share of the visitors gets v2; the rest gets v1.

The most specific rule wins: the exact host before *.parent before *, the exact path before the longest prefix, more
conditions before fewer. A visitor who has got v2 keeps it while the percentage rises.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRulesListCommand(env), newRulesSetCommand(env), newRulesRemoveCommand(env), newRulesDefaultCommand(env))
	cmd.AddCommand(newImportCommand(env, transfer.Rules(), readDemoRules), newExportCommand(env, transfer.Rules(), allRules))
	cmd.AddCommand(newDiffCommand(env, transfer.Rules(), allRules), newRulesTestCommand(env))
	return cmd
}

func newRulesListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "ls [HOST]",
		Aliases: []string{"list"},
		Short:   "List the rules",
		Example: "  cutover rules ls\n  cutover rules ls shop.example.com\n  cutover rules ls -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := optionalHost(args)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				list, err := s.Rules(cmd.Context(), host)
				if err != nil {
					return err
				}
				return printRules(env, list, host)
			})
		},
	}
}

// optionalHost returns the host that a list is narrowed to, or "".
func optionalHost(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	return parseHostArgument(args[0])
}

func printRules(env *environment, list admin.RuleList, host string) error {
	if env.output == "json" {
		return printJSON(env, list)
	}
	if len(list.Rules) == 0 {
		return errors.Join(printProblems(env.stdout, list.Problems), printNoRules(env, list.Default, host))
	}
	return errors.Join(
		printTable(env.stdout, ruleHeading(), ruleLines(list.Rules, list.Problems)),
		printProblems(env.stdout, list.Problems),
		say(env.stdout, "default: %s", describeDefault(list.Default)),
	)
}

func printNoRules(env *environment, fallback rules.Default, host string) error {
	example := "shop.example.com"
	whose := ""
	if host != "" {
		example, whose = host, " for "+host
	}
	return say(env.stdout, "There are no rules%s. What no rule matches: %s\nNext: cutover rules set %s --percent 10", whose, describeDefault(fallback), example)
}

func describeDefault(fallback rules.Default) string {
	if fallback == rules.DefaultRefuse {
		return "refuse (421)"
	}
	return "v1"
}

func ruleHeading() []string {
	return []string{"ID", "HOST", "PATH", "PERCENT", "V1", "V2", "ONLY IF", "STATE", "NOTE"}
}

func ruleLines(rows []rules.Rule, problems []rules.Problem) [][]string {
	lines := make([][]string, 0, len(rows))
	for _, r := range rows {
		lines = append(lines, []string{
			idText(r.ID), r.Host, pathText(r.Path, r.Match), percentText(r.Percent), r.V1, r.V2,
			ruleLimits(r), rowState(r.Enabled, "rules", idText(r.ID), problems), r.Note,
		})
	}
	return lines
}

// pathText marks a path that stands for itself only; others stand for what is below them too.
func pathText(path string, kind rules.Kind) string {
	if kind == rules.KindExact {
		return path + " (exact)"
	}
	return path
}

// ruleLimits puts what narrows a rule into one cell.
func ruleLimits(r rules.Rule) string {
	var parts []string
	if r.Conditions != "" && r.Conditions != "{}" {
		parts = append(parts, r.Conditions)
	}
	if r.StartsAt != "" {
		parts = append(parts, "from "+r.StartsAt)
	}
	if r.EndsAt != "" {
		parts = append(parts, "until "+r.EndsAt)
	}
	return strings.Join(parts, " ")
}

func rowState(enabled bool, table, row string, problems []rules.Problem) string {
	if slices.ContainsFunc(problems, func(p rules.Problem) bool { return p.Table == table && p.Row == row }) {
		return "PROBLEM"
	}
	return onOff(enabled)
}

func newRulesRemoveCommand(env *environment) *cobra.Command {
	var f ruleFlags
	cmd := &cobra.Command{
		Use:     "rm HOST[/PATH] | --id N",
		Aliases: []string{"remove"},
		Short:   "Take a rule away",
		Long:    "Take a rule away. A rule with conditions is named by its id, or by the same conditions.",
		Example: "  cutover rules rm shop.example.com/api\n  cutover rules rm --id 7",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			row, err := f.removal(cmd, args)
			if err != nil {
				return err
			}
			edits := []store.Edit{{Table: store.TableRules, Remove: true, Row: row}}
			return remove(cmd, env, edits, f.dryRun, "the rule "+describeKey(row))
		},
	}
	f.rowFlags.add(cmd)
	f.conditionFlags.add(cmd)
	return cmd
}

// removal returns which row is to go: one that is named by its id is not named otherwise too.
func (f *ruleFlags) removal(cmd *cobra.Command, args []string) (map[string]any, error) {
	if err := oneName(cmd, args); err != nil {
		return nil, err
	}
	row, err := f.key(cmd, firstOf(args))
	if err != nil {
		return nil, err
	}
	return row, f.put(cmd, row)
}

func oneName(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.Flags().Changed("id") {
		return withHint(&usageError{errors.New("both HOST and --id were given")}, "name the row by one of them")
	}
	return nil
}

// describeKey names a row as its command did.
func describeKey(row map[string]any) string {
	if id, ok := row["id"]; ok {
		return fmt.Sprint(id)
	}
	text := fmt.Sprint(row["host"], row["path"])
	if row["match"] == string(rules.KindExact) {
		text += " (exact)"
	}
	return text
}
