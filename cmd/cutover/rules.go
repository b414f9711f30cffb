package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/store"
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
			return withSession(cmd.Context(), env, func(s *session) error {
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

// ruleFlags are the columns of a rule as flags.
type ruleFlags struct {
	rowFlags
	conditionFlags
	percent                                string
	v1, v2, sticky, startsAt, endsAt, note string
	enabled                                bool
}

func newRulesSetCommand(env *environment) *cobra.Command {
	var f ruleFlags
	cmd := &cobra.Command{
		Use:   "set HOST[/PATH] | --id N",
		Short: "Make a rule, or change one",
		Long: `Make a rule, or change the one that is there for this host, path and conditions. Only what is given changes.

It is in force when the command returns. A new rule begins with --percent 0: all visitors get v1.`,
		Example: `  cutover rules set shop.example.com --percent 10           a tenth of the visitors get v2
  cutover rules set shop.example.com --percent 100          all of them
  cutover rules set shop.example.com --percent 0            none: back to v1
  cutover rules set shop.example.com/api --percent 100      the API first
  cutover rules set shop.example.com --percent 100 --cookie staff=yes
  cutover rules set '*.shop.example.com' --percent 50 --dry-run
  cutover rules set --id 7 --enabled=false`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			edit, err := f.edit(cmd, args)
			if err != nil {
				return err
			}
			return change(cmd.Context(), env, []store.Edit{edit}, f.dryRun, func(s *session, result store.Result) error {
				return showRules(cmd.Context(), env, s, result)
			})
		},
	}
	f.rowFlags.add(cmd)
	f.conditionFlags.add(cmd)
	f.add(cmd)
	return cmd
}

func (f *ruleFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.percent, "percent", "", "share of the visitors who get v2, 0 to 100")
	flags.StringVar(&f.v1, "v1", "", "upstream for the others (default v1)")
	flags.StringVar(&f.v2, "v2", "", "upstream for that share (default v2)")
	flags.StringVar(&f.sticky, "sticky", "", "how a visitor is recognised: cookie or address (default cookie)")
	flags.StringVar(&f.startsAt, "starts-at", "", "in force from then on, such as 2027-01-31T03:00:00+01:00; '' for always")
	flags.StringVar(&f.endsAt, "ends-at", "", "in force until then; '' for ever")
	flags.BoolVar(&f.enabled, "enabled", true, "whether the rule counts at all")
	flags.StringVar(&f.note, "note", "", "a note for other operators")
}

func (f *ruleFlags) edit(cmd *cobra.Command, args []string) (store.Edit, error) {
	row, err := f.key(cmd, firstOf(args))
	if err != nil {
		return store.Edit{}, err
	}
	if err := f.put(cmd, row); err != nil {
		return store.Edit{}, err
	}
	if cmd.Flags().Changed("percent") {
		percent, err := parseNumber("--percent", strings.TrimSuffix(f.percent, "%"))
		if err != nil {
			return store.Edit{}, err
		}
		row["percent"] = percent
	}
	given(cmd, row, "v1", "v1", f.v1)
	given(cmd, row, "v2", "v2", f.v2)
	given(cmd, row, "sticky", "sticky", f.sticky)
	given(cmd, row, "starts-at", "starts_at", f.startsAt)
	given(cmd, row, "ends-at", "ends_at", f.endsAt)
	given(cmd, row, "enabled", "enabled", f.enabled)
	given(cmd, row, "note", "note", f.note)
	return store.Edit{Table: store.TableRules, Row: row}, nil
}

func firstOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// showRules prints the rules that a command made true, and warns of what visitors would meet.
func showRules(ctx context.Context, env *environment, s *session, result store.Result) error {
	list, err := s.Rules(ctx, "")
	if err != nil {
		return err
	}
	ids := changedIDs(result)
	rows := slices.DeleteFunc(list.Rules, func(r rules.Rule) bool { return !slices.Contains(ids, idText(r.ID)) })
	if err := confirm("rules", ids, len(rows), list.Problems); err != nil {
		return err
	}
	if env.output == "json" {
		return printJSON(env, result)
	}
	if err := printTable(env.stdout, ruleHeading(), ruleLines(rows, list.Problems)); err != nil {
		return err
	}
	return warnOfUpstreams(ctx, env, s, rows)
}

// warnOfUpstreams tells which upstream of a rule cannot answer.
func warnOfUpstreams(ctx context.Context, env *environment, s *session, rows []rules.Rule) error {
	list, err := s.Upstreams(ctx)
	if err != nil {
		return err
	}
	for _, name := range upstreamsInUse(rows) {
		known := slices.ContainsFunc(list.Upstreams, func(u rules.Upstream) bool { return u.Name == name && len(u.Targets) > 0 })
		if known {
			continue
		}
		if err := say(env.stderr, "warning: upstream %s has no targets, so its visitors get 503\nhint: cutover upstreams set %s http://127.0.0.1:PORT", name, name); err != nil {
			return err
		}
	}
	return nil
}

// upstreamsInUse names the upstreams that some visitors are sent to.
func upstreamsInUse(rows []rules.Rule) []string {
	var names []string
	for _, r := range rows {
		if r.Percent < 100 {
			names = append(names, r.V1)
		}
		if r.Percent > 0 {
			names = append(names, r.V2)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
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
			return remove(cmd.Context(), env, edits, f.dryRun, "the rule "+describeKey(row))
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
