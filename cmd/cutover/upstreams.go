package main

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/store"
)

func newUpstreamsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "upstreams",
		Short: "Say where v1 and v2 run",
		Long: `An upstream is a named pool of targets, the servers that answer. v1 and v2 are there from the start, without targets;
a rule may name others.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUpstreamsListCommand(env), newUpstreamsSetCommand(env), newUpstreamsRemoveCommand(env))
	return cmd
}

func newUpstreamsListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the upstreams and their targets",
		Example: "  cutover upstreams ls\n  cutover upstreams ls -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withSession(cmd, env, func(s *session) error {
				list, err := s.Upstreams(cmd.Context())
				if err != nil {
					return err
				}
				return printUpstreams(env, list)
			})
		},
	}
}

func printUpstreams(env *environment, list admin.UpstreamList) error {
	if env.output == "json" {
		return printJSON(env, list)
	}
	if len(list.Upstreams) > 0 {
		err := printTable(env.stdout, upstreamHeading(), upstreamLines(list.Upstreams))
		return errors.Join(err, printProblems(env.stdout, list.Problems), suggestTargets(env, list.Upstreams))
	}
	return errors.Join(
		printProblems(env.stdout, list.Problems),
		say(env.stdout, "There are no upstreams.\nNext: cutover upstreams set v1 http://127.0.0.1:9001"),
	)
}

// suggestTargets says what to run next where an upstream cannot answer yet.
func suggestTargets(env *environment, upstreams []rules.Upstream) error {
	for _, u := range upstreams {
		if len(u.Targets) == 0 {
			return say(env.stdout, "Next: cutover upstreams set %s http://127.0.0.1:PORT", u.Name)
		}
	}
	return nil
}

func upstreamHeading() []string {
	return []string{"UPSTREAM", "TARGET", "WEIGHT", "STATE", "SETTINGS", "NOTE"}
}

// upstreamLines says what holds for a whole upstream once, beside its first target.
func upstreamLines(rows []rules.Upstream) [][]string {
	var lines [][]string
	for _, u := range rows {
		if len(u.Targets) == 0 {
			lines = append(lines, []string{u.Name, "(none)", "", "", settingsText(&u), u.Note})
		}
		for i, t := range u.Targets {
			line := []string{u.Name, t.URL, strconv.Itoa(t.Weight), string(t.State), "", ""}
			if i == 0 {
				line[4], line[5] = settingsText(&u), u.Note
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func newUpstreamsRemoveCommand(env *environment) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:     "rm NAME",
		Aliases: []string{"remove"},
		Short:   "Take an upstream and its targets away",
		Example: "  cutover upstreams rm canary",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			edits := []store.Edit{{Table: store.TableUpstreams, Remove: true, Row: map[string]any{"name": args[0]}}}
			return remove(cmd, env, edits, dryRun, "the upstream "+args[0])
		},
	}
	addDryRun(cmd, &dryRun)
	return cmd
}
