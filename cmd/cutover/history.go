package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules/store"
)

func newHistoryCommand(env *environment) *cobra.Command {
	var f historyFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show who changed what, and when",
		Long: `Show who changed what, and when: the newest change first, whether it was made with the CLI or with sqlite3.

TIME is ` + momentHelp + `.`,
		Example: "  cutover history\n  cutover history --host shop.example.com --since 2d\n  cutover history --author sqlite3 -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				list, err := s.History(cmd.Context(), filter)
				if err != nil {
					return err
				}
				return printHistory(env, list, filter)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// historyFlags narrow what history shows.
type historyFlags struct {
	host, author, table, since, until string
	before                            int64
	limit                             int
}

func (f *historyFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.host, "host", "", "only changes of this host")
	flags.StringVar(&f.author, "author", "", "only changes by whom this is a part of the name of")
	flags.StringVar(&f.table, "table", "", "only changes of this table: rules, redirects, upstreams, targets, hosts, guards or meta")
	flags.StringVar(&f.since, "since", "", "only changes since this TIME")
	flags.StringVar(&f.until, "until", "", "only changes before this TIME")
	flags.Int64Var(&f.before, "before", 0, "only changes before the one with this number, for the next page")
	flags.IntVar(&f.limit, "limit", 50, "how many changes, at most 10000")
}

func (f *historyFlags) filter() (filter store.Filter, err error) {
	if f.limit < 1 || f.before < 0 {
		return filter, withHint(&usageError{errors.New("--limit and --before must be numbers from 1")}, "leave them out for the newest 50")
	}
	if f.host != "" {
		if filter.Host, err = parseHostArgument(f.host); err != nil {
			return filter, err
		}
	}
	if filter.Since, err = momentFlag("--since", f.since); err != nil {
		return filter, err
	}
	filter.Until, err = momentFlag("--until", f.until)
	filter.Author, filter.Table, filter.Before, filter.Limit = f.author, store.Table(f.table), f.before, f.limit
	return filter, err
}

func printHistory(env *environment, list admin.HistoryList, filter store.Filter) error {
	if env.output == "json" {
		return printJSON(env, list)
	}
	if len(list.Changes) == 0 {
		return say(env.stdout, "There is no such change in the journal.")
	}
	lines := make([][]string, 0, len(list.Changes))
	for i := range list.Changes {
		c := &list.Changes[i]
		lines = append(lines, []string{idText(c.Seq), localTime(c.At), c.Author, string(c.Table), placeOf(c.RowChange), describeEffect(c)})
	}
	if err := printTable(env.stdout, []string{"CHANGE", "TIME", "AUTHOR", "TABLE", "ROW", "WHAT"}, lines); err != nil {
		return err
	}
	if len(list.Changes) < filter.Limit {
		return nil
	}
	return say(env.stdout, "More: --before %d", list.Changes[len(list.Changes)-1].Seq)
}

// placeOf names the row of a change as operators do: by host and path, by name, or by URL.
func placeOf(row store.RowChange) string {
	values := row.New
	if values == nil {
		values = row.Old
	}
	if row.Table == store.TableTargets {
		return valueOf(values, "upstream") + " " + valueOf(values, "url")
	}
	if path := valueOf(values, "path"); row.Host != "" && path != "/" {
		return row.Host + path
	}
	if row.Host != "" {
		return row.Host
	}
	return row.Row
}

func valueOf(values store.Values, column string) string {
	value, ok := values.Get(column)
	if !ok {
		return ""
	}
	return valueText(value)
}

// valueText prints a value for people.
func valueText(value any) string {
	switch v := value.(type) {
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case string:
		if v == "" || strings.ContainsAny(v, " ,") {
			return strconv.Quote(v)
		}
	}
	return fmt.Sprint(value)
}

// describeEffect says in words what a change did, and the words that came with it.
func describeEffect(c *store.Change) string {
	text := effectText(c.RowChange)
	if c.Problem != "" {
		text = string(c.Op) + ", but it cannot be read: " + c.Problem
	}
	if c.Note != "" {
		text += " (" + c.Note + ")"
	}
	return text
}

// effectText says what changed: "percent 10 → 50", or what was added or removed.
func effectText(row store.RowChange) string {
	switch row.Op {
	case store.OpInsert:
		return strings.Join(append([]string{"added"}, remarkable(row.New)...), " ")
	case store.OpDelete:
		return strings.Join(append([]string{"removed"}, remarkable(row.Old)...), " ")
	case store.OpUpdate:
	}
	var parts []string
	for _, column := range row.New {
		if was, now := valueOf(row.Old, column.Name), valueText(column.Value); was != now {
			parts = append(parts, column.Name+" "+shown(column.Name, was)+" → "+shown(column.Name, now))
		}
	}
	if len(parts) == 0 {
		return "written again as it was"
	}
	return strings.Join(parts, ", ")
}

// shown leaves the hashes of passwords out, which are of no use to readers.
func shown(column, text string) string {
	if column != "users" {
		return text
	}
	return strconv.Quote(userNames(strings.Trim(text, `"`)))
}

// remarkable lists the columns of a row that placeOf does not name and that say more than a default does.
func remarkable(values store.Values) []string {
	named := []string{"host", "path", "name", "upstream", "url"}
	usual := map[string]string{
		"match": "prefix", "conditions": "{}", "v1": "v1", "v2": "v2", "sticky": "cookie", "enabled": "1", "needs": "1",
		"keep_path": "0", "keep_query": "1", "weight": "1", "state": "ready", "https": "off", "hsts": "0",
		"certificate": "auto", "tls": "terminate", "rate": "0", "burst": "0",
	}
	maps.Copy(usual, store.UpstreamDefaults())
	var parts []string
	for _, column := range values {
		text := valueText(column.Value)
		if slices.Contains(named, column.Name) || text == `""` || text == usual[column.Name] {
			continue
		}
		parts = append(parts, column.Name+" "+shown(column.Name, text))
	}
	return parts
}
