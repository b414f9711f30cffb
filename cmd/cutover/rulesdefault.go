package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"cutover/rules"
	"cutover/rules/store"
)

func newRulesDefaultCommand(env *environment) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "default [v1|refuse]",
		Short: "Show or set what happens to requests that no rule matches",
		Long: `Show or set what happens to requests that no rule and no redirect matches.

v1 forwards them to the upstream v1, refuse answers 421.`,
		Example:   "  cutover rules default\n  cutover rules default refuse",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{string(rules.DefaultV1), string(rules.DefaultRefuse)},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return withSession(cmd, env, func(s *session) error { return showDefault(cmd.Context(), env, s, "") })
			}
			edits := []store.Edit{{Table: store.TableMeta, Row: map[string]any{"key": "default", "value": args[0]}}}
			return change(cmd, env, edits, dryRun, func(s *session, _ store.Result) error {
				return showDefault(cmd.Context(), env, s, rules.Default(args[0]))
			})
		},
	}
	addDryRun(cmd, &dryRun)
	return cmd
}

// showDefault prints the default; wanted is what it should be, or "".
func showDefault(ctx context.Context, env *environment, s *session, wanted rules.Default) error {
	list, err := s.Rules(ctx, "")
	if err != nil {
		return err
	}
	if wanted != "" && list.Default != wanted {
		return withHint(fmt.Errorf("the default is %s: somebody else changed it at the same moment", list.Default), "see 'cutover rules default'")
	}
	if env.output == "json" {
		return printJSON(env, map[string]rules.Default{"default": list.Default})
	}
	return say(env.stdout, "default: %s", describeDefault(list.Default))
}
