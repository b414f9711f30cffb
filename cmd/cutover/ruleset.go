package main

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cutover/rules"
	"cutover/rules/store"
)

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
			return change(cmd, env, []store.Edit{edit}, f.dryRun, func(s *session, result store.Result) error {
				return showRule(cmd.Context(), env, s, result)
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

// showRule prints the rule that a command made true, and warns of what visitors would meet.
func showRule(ctx context.Context, env *environment, s *session, result store.Result) error {
	id := changedID(result)
	list, err := s.Rule(ctx, id)
	if err != nil {
		return err
	}
	if err := confirm("rules", id, len(list.Rules) > 0, list.Problems); err != nil {
		return err
	}
	if env.output == "json" {
		return printJSON(env, result)
	}
	if err := printTable(env.stdout, ruleHeading(), ruleLines(list.Rules, list.Problems)); err != nil {
		return err
	}
	return warnOfUpstreams(ctx, env, s, list.Rules)
}

// warnOfUpstreams tells which upstream of a rule cannot answer.
func warnOfUpstreams(ctx context.Context, env *environment, s *session, rows []rules.Rule) error {
	list, err := s.Upstreams(ctx)
	if err != nil {
		return err
	}
	for _, name := range upstreamsInUse(rows) {
		known := slices.ContainsFunc(list.Upstreams, func(u rules.Upstream) bool { return u.Name == name && (len(u.Targets) > 0 || u.TargetsOf != "") })
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
