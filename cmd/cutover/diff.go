package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"cutover/rules/transfer"
)

func newDiffCommand[R transfer.Row](env *environment, table transfer.Table[R], all exporter[R]) *cobra.Command {
	var format string
	name := table.Name()
	cmd := &cobra.Command{
		Use:   "diff FILE|-",
		Short: "Show what an import with --replace would change",
		Long: `Show what 'cutover ` + name + ` import FILE --replace' would add (+), remove (-) and change (- and +).

The exit status is 0 if there is nothing, 1 if there is something, and 2 if the file cannot be compared.`,
		Example: "  cutover " + name + " diff " + name + ".csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted, err := readAll(env, table, args[0], format)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				d, err := compare(cmd.Context(), s, table, all, wanted)
				if err != nil {
					return err
				}
				return d.print(env, table, args[0])
			})
		},
	}
	addFormat(cmd, &format)
	return cmd
}

// readAll reads a file that has no bad line, by the keys of its rows.
func readAll[R transfer.Row](env *environment, table transfer.Table[R], name, flag string) (map[string]R, error) {
	file, err := openSource(env, table, name, flag)
	if err != nil {
		return nil, err
	}
	rows, bad := map[string]R{}, 0
	err = file.read(func(line transfer.Line[R]) error {
		if line.Err == nil {
			rows[table.Key(&line.Row)] = line.Row
			return nil
		}
		if bad++; bad > maxBadLines {
			return nil
		}
		return say(env.stderr, "%s:%d: %s", name, line.Number, oneLine(line.Err.Error()))
	})
	if err = errors.Join(err, file.close()); err != nil {
		return nil, withHint(&usageError{fmt.Errorf("%s: %w", name, err)}, "see 'cutover "+table.Name()+" import --help' for what a file has")
	}
	if bad > 0 {
		return nil, withHint(&usageError{fmt.Errorf("%s has %s", name, count(bad, "bad line"))}, "correct them")
	}
	return rows, nil
}

// rowChange is a row as it is and as the file has it; one of the two is missing where it is added or removed.
type rowChange[R transfer.Row] struct {
	Is     *R `json:"is"`
	Wanted *R `json:"wanted"`
	key    string
}

// difference is what an import would do, sorted.
type difference[R transfer.Row] []rowChange[R]

// compare finds what tells the rows of a file from those there are; wanted is empty afterwards.
func compare[R transfer.Row](ctx context.Context, s *session, table transfer.Table[R], all exporter[R], wanted map[string]R) (difference[R], error) {
	d := difference[R]{}
	err := all(ctx, s, func(row *R) error {
		is, key := *row, table.Key(row)
		other, ok := wanted[key]
		delete(wanted, key)
		switch {
		case !ok:
			d = append(d, rowChange[R]{Is: &is, key: key})
		case len(table.Differing(&is, &other)) > 0:
			d = append(d, rowChange[R]{Is: &is, Wanted: &other, key: key})
		}
		return nil
	})
	for key, row := range wanted {
		d = append(d, rowChange[R]{Wanted: &row, key: key})
	}
	slices.SortFunc(d, func(a, b rowChange[R]) int { return cmp.Compare(a.key, b.key) })
	return d, err
}

func (d difference[R]) print(env *environment, table transfer.Table[R], name string) error {
	var err error
	if env.output == "json" {
		err = printJSON(env, map[string]any{"differences": d})
	} else {
		err = d.printLines(env, table)
	}
	if err != nil {
		return err
	}
	if len(d) == 0 {
		return nil
	}
	return withHint(fmt.Errorf("the %s are not those of %s: %s", table.Name(), name, count(len(d), "difference")),
		"to make them so: cutover "+table.Name()+" import "+name+" --replace")
}

func (d difference[R]) printLines(env *environment, table transfer.Table[R]) error {
	for _, c := range d {
		if err := c.print(env, table); err != nil {
			return err
		}
	}
	return nil
}

// print shows a row that is added or removed with what differs from the defaults, and one that changes with what does.
func (c rowChange[R]) print(env *environment, table transfer.Table[R]) error {
	initial := table.Defaults()
	var names []string
	switch {
	case c.Is == nil:
		names = table.Differing(&initial, c.Wanted)
	case c.Wanted == nil:
		names = table.Differing(&initial, c.Is)
	default:
		names = table.Differing(c.Is, c.Wanted)
	}
	return errors.Join(printSigned(env, "-", table, c.Is, names), printSigned(env, "+", table, c.Wanted, names))
}

func printSigned[R transfer.Row](env *environment, sign string, table transfer.Table[R], row *R, names []string) error {
	if row == nil {
		return nil
	}
	text := sign + table.Place(row)
	if cells := table.Cells(row, names); cells != "" {
		text += " " + cells
	}
	return say(env.stdout, "%s", oneLine(text))
}
