package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules/store"
)

func newUndoCommand(env *environment) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "undo CHANGE...",
		Short: "Take changes back, by their numbers in the history",
		Long: `Take changes back, by their numbers in the history: all of them or none. The undo is a change itself, and can be undone.

A change is not undone if a later one has touched the same row, unless that one is undone with it.`,
		Example: "  cutover undo 17 --dry-run\n  cutover undo 17\n  cutover undo 17 18 19",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := admin.UndoRequest{DryRun: dryRun}
			for _, text := range args {
				seq, err := strconv.ParseInt(text, 10, 64)
				if err != nil || seq < 1 {
					return withHint(&usageError{fmt.Errorf("%q is not the number of a change", text)}, "run 'cutover history' for the numbers")
				}
				request.Changes = append(request.Changes, seq)
			}
			return withSession(cmd, env, func(s *session) error {
				result, err := s.Undo(cmd.Context(), request)
				if err != nil {
					return err
				}
				return printReversal(env, result, dryRun)
			})
		},
	}
	addDryRun(cmd, &dryRun)
	return cmd
}

func newRestoreCommand(env *environment) *cobra.Command {
	var at string
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "restore --at TIME",
		Short: "Bring back all rules as they stood at a time",
		Long: `Bring back all rules, redirects, upstreams, hosts and the default as they stood at a time, from the journal of changes.
The restore is a set of changes itself: to take it back, restore the time just before it.

TIME is ` + momentHelp + `.`,
		Example: "  cutover restore --at 10m --dry-run\n  cutover restore --at '2026-11-21 03:00'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			moment, err := restoreTime(cmd, at, time.Now())
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				return restore(cmd, env, s, admin.RestoreRequest{At: moment, DryRun: dryRun})
			})
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "the TIME to go back to")
	addDryRun(cmd, &dryRun)
	return cmd
}

func restoreTime(cmd *cobra.Command, at string, now time.Time) (time.Time, error) {
	if at == "" {
		return time.Time{}, withHint(&usageError{fmt.Errorf("to which time? --at was not given")}, "run '"+cmd.CommandPath()+" --help'")
	}
	moment, err := parseMoment("--at", at, now)
	if err == nil && moment.After(now) {
		err = withHint(&usageError{fmt.Errorf("--at %s has not come yet", localTime(moment))}, "give a time that has passed; 'cutover history' shows them")
	}
	return moment, err
}

func restore(cmd *cobra.Command, env *environment, s *session, request admin.RestoreRequest) error {
	last, err := s.History(cmd.Context(), store.Filter{Limit: 1})
	if err != nil {
		return err
	}
	result, err := s.Restore(cmd.Context(), request)
	if err != nil {
		return err
	}
	if err := printReversal(env, result, request.DryRun); err != nil {
		return err
	}
	if request.DryRun || result.Total() == 0 || env.output == "json" || len(last.Changes) == 0 {
		return nil
	}
	return say(env.stdout, "To take it back: cutover restore --at %s", last.Changes[0].At.Format(time.RFC3339Nano))
}

// dryRunReversal is a Reversal that did not happen.
type dryRunReversal struct {
	store.Reversal
	DryRun bool `json:"dry_run"`
}

// printReversal says what became of each row, or would.
func printReversal(env *environment, result store.Reversal, dryRun bool) error {
	if env.output == "json" && dryRun {
		return printJSON(env, dryRunReversal{result, true})
	}
	if env.output == "json" {
		return printJSON(env, result)
	}
	if result.Total() == 0 {
		return say(env.stdout, "Everything is as it was then; nothing was changed.")
	}
	if err := say(env.stdout, "%s", reversalHeading(result, dryRun)); err != nil {
		return err
	}
	for _, row := range result.Rows {
		if err := say(env.stdout, "  %s %s: %s", row.Table, oneLine(placeOf(row)), oneLine(effectText(row))); err != nil {
			return err
		}
	}
	if more := result.Total() - len(result.Rows); more > 0 {
		return say(env.stdout, "  and %s more", count(more, "row"))
	}
	return nil
}

func reversalHeading(result store.Reversal, dryRun bool) string {
	counts := fmt.Sprintf("%d added, %d removed, %d changed", result.Added, result.Removed, result.Changed)
	if dryRun {
		return count(result.Total(), "row") + " would change (" + counts + "); nothing was changed"
	}
	return counts + "; it is in force:"
}
