package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"cutover/rules"
	"cutover/rules/store"
)

// printJSON prints a value for -o json: the same fields as the API, indented.
func printJSON(env *environment, value any) error {
	encoder := json.NewEncoder(env.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// printTable prints aligned columns below a heading.
func printTable(w io.Writer, heading []string, lines [][]string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range append([][]string{heading}, lines...) {
		cells := make([]string, len(line))
		for i, cell := range line {
			cells[i] = cmp.Or(oneLine(cell), "-")
		}
		// The tabwriter keeps an error until Flush.
		_, _ = fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// oneLine keeps what others wrote, such as notes, from breaking the table or from steering the terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, text)
}

func say(w io.Writer, format string, values ...any) error {
	_, err := fmt.Fprintf(w, format+"\n", values...)
	return err
}

// printProblems lists the rows that are not served as they are written.
func printProblems(w io.Writer, problems []rules.Problem) error {
	for _, p := range problems {
		if err := say(w, "problem: %s", describeProblem(p)); err != nil {
			return err
		}
	}
	return nil
}

func describeProblem(p rules.Problem) string {
	text := p.Table + " row " + p.Row
	if p.Host != "" {
		text += " (" + p.Host + ")"
	}
	text += ": " + oneLine(p.Reason)
	if p.Serving {
		return text + "; its last good version still serves"
	}
	return text + "; it is not served"
}

// printDryRun says what an edit would have done.
func printDryRun(env *environment, result store.Result) error {
	if env.output == "json" {
		return printJSON(env, dryRunResult{result, true})
	}
	if err := say(env.stdout, "%s would change; nothing was changed", count(result.Changed, "row")); err != nil {
		return err
	}
	for _, row := range result.Rows {
		if err := say(env.stdout, "  %s", describeRow(row)); err != nil {
			return err
		}
	}
	return nil
}

// dryRunResult is a Result that did not happen.
type dryRunResult struct {
	store.Result
	DryRun bool `json:"dry_run"`
}

// describeRow prints a row's columns by name, the ones that tell rows apart first.
func describeRow(row map[string]any) string {
	first := []string{"id", "upstream", "name", "host", "path", "match", "url", "key"}
	names := slices.SortedFunc(maps.Keys(row), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(first, a), rank(first, b)), cmp.Compare(a, b))
	})
	var parts []string
	for _, name := range names {
		if text := fmt.Sprint(row[name]); text != "" && row[name] != nil {
			parts = append(parts, name+"="+oneLine(text))
		}
	}
	return strings.Join(parts, " ")
}

func rank(order []string, name string) int {
	if i := slices.Index(order, name); i >= 0 {
		return i
	}
	return len(order)
}

// count says "1 row" or "2 rows".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// percentText prints 10 as "10%" and 0.5 as "0.5%".
func percentText(percent float64) string {
	if percent < 0 { // in the table is something that is no number
		return "?"
	}
	return strconv.FormatFloat(percent, 'f', -1, 64) + "%"
}

// timeText prints a moment in UTC, or "never" for none.
func timeText(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// ageText prints a duration as people say it: 42s, 5m, 3h12m, 12d4h.
func ageText(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	}
}

func onOff(enabled bool) string {
	if enabled {
		return "on"
	}
	return "off"
}
