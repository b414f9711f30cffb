package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// row is a line of the table that has a bar.
type row struct {
	section, what, measured, bar string
	held                         bool
}

// summary prints the table in short, as docs/edge.md has it: a line for each attack, then the other rows.
func (t *table) summary(out io.Writer) {
	t.busy(out)
	if len(t.m.Attacks) > 0 {
		t.attacks(out)
	}
	fmt.Fprint(out, "| what | measured | bar | |\n|---|---|---|---|\n")
	for _, r := range t.rows {
		if r.section == "" || strings.HasPrefix(r.what, "orders for") {
			fmt.Fprintf(out, "| %s | %s | %s | %s |\n", r.what, r.measured, r.bar, verdictOf(r.held))
		}
	}
	t.others(out)
}

func (t *table) attacks(out io.Writer) {
	fmt.Fprintf(out, "| attack | never cut | lived too long | resident memory, at most | counted as | p99 of others, in ms | |\n|---|---|---|---|---|---|---|\n")
	for _, a := range t.m.Attacks {
		spared, outlived := fmt.Sprintf("%s of %s", number(a.Result.Spared), number(a.Result.Opened)), number(a.Result.Outlived)
		if a.Attack == "handshakes" {
			spared, outlived = "", "" // they end by themselves
		}
		fmt.Fprintf(out, "| `%s`, %s | %s | %s | %.0f MB | %s | %s | %s |\n", a.Attack, a.shortSize(), spared, outlived, mb(a.Memory.Most), a.reasons(), a.p99(), t.verdict(a.Attack))
	}
	fmt.Fprintln(out)
}

// others sums up what the ordinary clients met in all attacks.
func (t *table) others(out io.Writer) {
	asked, failed := 0, 0
	for _, a := range t.m.Attacks {
		asked, failed = asked+a.During.All.Requests, failed+a.During.All.Failures
	}
	if asked > 0 {
		fmt.Fprintf(out, "| failed requests of others during all attacks | %s of %s | 0 | %s |\n", number(failed), number(asked), verdictOf(failed == 0))
	}
}

// busy says whether times are worth anything.
func (t *table) busy(out io.Writer) {
	busy := 0
	for _, a := range t.m.Attacks {
		if a.Idle.busy() {
			busy++
		}
	}
	if busy > 0 {
		fmt.Fprintf(out, "The machine was busy with something else before %d of %d attacks: times say nothing there.\n\n", busy, len(t.m.Attacks))
	}
}

func (a attacked) shortSize() string {
	switch {
	case a.Total > 0:
		return number(a.Result.Sent)
	case a.isFlood():
		return fmt.Sprintf("%s frames or requests", number(a.Result.Sent))
	default:
		return fmt.Sprintf("%s at once", number(a.Result.Most))
	}
}

// reasons are those that the worker has counted.
func (a attacked) reasons() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(a.Moved)) {
		if reason, ok := strings.CutPrefix(name, `refused_total{reason="`); ok {
			list = append(list, "`"+strings.TrimSuffix(reason, `"}`)+"`")
		}
	}
	if a.Attack == "handshakes" {
		list = append(list, "events by outcome")
	}
	return strings.Join(list, ", ")
}

func (a attacked) p99() string {
	text := fmt.Sprintf("%.1f; calm %.1f", a.During.All.P99.Seconds()*1000, a.Calm.All.P99.Seconds()*1000)
	if a.Control != nil {
		text += fmt.Sprintf("; control %.1f", a.Control.All.P99.Seconds()*1000)
	}
	return text
}

// verdict tells the bars of an attack that are missed.
func (t *table) verdict(attack string) string {
	var missed []string
	for _, r := range t.rows {
		if r.section == attack && !r.held {
			missed = append(missed, r.what)
		}
	}
	if len(missed) == 0 {
		return "held"
	}
	return "missed: " + strings.Join(missed, ", ")
}

// number writes thousands apart.
func number(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
