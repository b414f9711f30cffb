package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/rules/store"
)

// rowFlags are the flags that say which row of rules or redirects is meant.
type rowFlags struct {
	id     int64
	exact  bool
	dryRun bool
}

func (f *rowFlags) add(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.id, "id", 0, "the row with this id")
	cmd.Flags().BoolVar(&f.exact, "exact", false, "the path itself only, nothing below it")
	addDryRun(cmd, &f.dryRun)
}

func addDryRun(cmd *cobra.Command, dryRun *bool) {
	cmd.Flags().BoolVar(dryRun, "dry-run", false, "say what would change, and change nothing")
}

// key returns the columns that say which row is meant. place is HOST[/PATH], or empty with --id.
func (f *rowFlags) key(cmd *cobra.Command, place string) (map[string]any, error) {
	row := map[string]any{}
	byID := cmd.Flags().Changed("id")
	if byID {
		row["id"] = f.id
	}
	if place == "" && !byID {
		return nil, withHint(&usageError{errors.New("which row? neither HOST nor --id was given")}, "run '"+cmd.CommandPath()+" --help'")
	}
	if place != "" {
		p, err := parsePlace(place)
		if err != nil {
			return nil, err
		}
		row["host"], row["path"] = p.host, p.path
	}
	if !byID || cmd.Flags().Changed("exact") {
		row["match"] = kindText(f.exact)
	}
	return row, nil
}

func kindText(exact bool) string {
	if exact {
		return string(rules.KindExact)
	}
	return string(rules.KindPrefix)
}

// given adds a column to row if its flag was given.
func given(cmd *cobra.Command, row map[string]any, flag, column string, value any) {
	if cmd.Flags().Changed(flag) {
		row[column] = value
	}
}

func notWhole(flag, text string) error {
	return withHint(&usageError{fmt.Errorf("%s %q is not a whole number", flag, text)}, "give a number such as 10")
}

// remove takes one row away, and says so.
func remove(cmd *cobra.Command, env *environment, edits []store.Edit, dryRun bool, what string) error {
	return withSession(cmd, env, func(s *session) error {
		result, err := s.Edit(cmd.Context(), admin.EditRequest{Edits: edits, DryRun: dryRun})
		if err != nil {
			return err
		}
		if dryRun {
			return printDryRun(env, result)
		}
		if env.output == "json" {
			return printJSON(env, result)
		}
		return say(env.stdout, "%s is gone", what)
	})
}

// change makes an edit of one table, and hands what is true afterwards to show. A row that was stored but is not
// served is an error.
func change(cmd *cobra.Command, env *environment, edits []store.Edit, dryRun bool, show func(*session, store.Result) error) error {
	return withSession(cmd, env, func(s *session) error {
		result, err := s.Edit(cmd.Context(), admin.EditRequest{Edits: edits, DryRun: dryRun})
		if err != nil {
			return err
		}
		if dryRun {
			return printDryRun(env, result)
		}
		return show(s, result)
	})
}

// changedID returns the id of the row that an edit changed.
func changedID(result store.Result) string {
	if len(result.Rows) == 0 {
		return ""
	}
	return fmt.Sprint(result.Rows[0]["id"])
}

// confirm checks that the row that was asked for is there and in force. There may be a problem with a row although it was
// stored: another row that it depends on may have gone at the same moment.
func confirm(table, row string, found bool, problems []rules.Problem) error {
	for _, p := range problems {
		if p.Table == table && p.Row == row {
			return withHint(fmt.Errorf("stored, but not in force: %s", describeProblem(p)), "correct the row with 'cutover "+table+" set', or take it away with 'cutover "+table+" rm'")
		}
	}
	if !found {
		return withHint(fmt.Errorf("the row is not there any more: somebody else changed it at the same moment"), "see 'cutover "+table+" ls'")
	}
	return nil
}

func idText(id int64) string { return strconv.FormatInt(id, 10) }

// parseNumber reads a number that JSON can carry, so neither nan nor inf. Its range is for the rules to judge.
func parseNumber(flag, text string) (float64, error) {
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(number) || math.IsInf(number, 0) {
		return 0, withHint(&usageError{fmt.Errorf("%s %q is not a number", flag, text)}, "give a number such as 10 or 0.5")
	}
	return number, nil
}
