package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"cutover/scripts/e2e/edge/attack"
)

// table is what a measurement is judged by.
type table struct {
	out     io.Writer
	m       measured
	section string // attack that rows are printed for; empty for the others
	rows    []row
	missed  int // bars
	times   int // those of them that are times
}

// printTable prints the figures, and judges them.
func printTable(out io.Writer, isShort bool, m measured) *table {
	t := &table{out: out, m: m}
	size := "full"
	if isShort {
		size = "short"
	}
	fmt.Fprintf(out, "\n## The edge, %s measurement\n", size)
	for _, a := range m.Attacks {
		t.attack(a)
	}
	t.section = ""
	if m.Scans != nil || m.H2spec != nil || m.Smuggling != nil || m.Exposure != nil {
		fmt.Fprint(out, "\n### Scanners and protocols\n")
		t.head()
		t.scans()
		t.conformance()
		t.smuggling()
		t.exposure()
		t.lists()
	}
	return t
}

func (t *table) head() { fmt.Fprint(t.out, "\n| what | measured | bar | |\n|---|---|---|---|\n") }

// line prints a row. A bar that is missed is counted.
func (t *table) line(what, measured, bar string, held bool) {
	if !held {
		t.missed++
	}
	t.rows = append(t.rows, row{section: t.section, what: what, measured: measured, bar: bar, held: held})
	fmt.Fprintf(t.out, "| %s | %s | %s | %s |\n", what, measured, bar, verdictOf(held))
}

func verdictOf(held bool) string {
	if held {
		return "held"
	}
	return "missed"
}

// timeLine prints a row whose bar is a time: on a machine that is shared, it may be missed for no fault of the subject's.
func (t *table) timeLine(what, measured, bar string, held bool) {
	if !held {
		t.times++
	}
	t.line(what, measured, bar, held)
}

// fact prints a row that has no bar.
func (t *table) fact(what, measured string) { fmt.Fprintf(t.out, "| %s | %s | | |\n", what, measured) }

// attack prints what an attack came to.
func (t *table) attack(a attacked) {
	t.section = a.Attack
	fmt.Fprintf(t.out, "\n### %s: %s\n", a.Attack, a.says())
	fmt.Fprintf(t.out, "\n%s, from processes that give way to others (nice 19), half of the connections from one address and the others from an address each. "+
		"The attackers used %s, the worker %s. Of %d processors %.1f were idle in the calm, %.1f meanwhile.\n",
		a.size(), processors(a.Result.CPU, a.Result.Lasted), processors(a.Worker, a.Result.Lasted), a.Idle.Of, a.Idle.Calm, a.Idle.During)
	if a.Idle.busy() {
		fmt.Fprint(t.out, "\nThe machine was busy with something else: times say nothing.\n")
	}
	t.head()
	if a.Attack == "handshakes" {
		t.orders()
	} else {
		t.cut(a)
	}
	t.fact("what the server said", answers(a.Result.Answers))
	t.counted(a)
	t.memory(a)
	t.latency(a)
	line := t.line
	if a.Idle.busy() {
		line = t.timeLine // others lose their patience with the machine
	}
	line("failed requests of others", fmt.Sprintf("%d of %d; calm: %d of %d", a.During.All.Failures, a.During.All.Requests, a.Calm.All.Failures, a.Calm.All.Requests),
		"0", a.During.All.Failures == 0)
	for _, reason := range slices.Sorted(maps.Keys(a.During.Reasons)) {
		t.fact("of those", fmt.Sprintf("%d × %s", a.During.Reasons[reason], reason))
	}
	t.line("the worker goes on", map[bool]string{false: "yes", true: "no: another has taken its place"}[a.Died], "yes", !a.Died)
}

// size says how hard the attack was.
func (a attacked) size() string {
	switch {
	case a.Attack == "handshakes":
		return fmt.Sprintf("%d handshakes of %d, %d a second", a.Result.Sent, a.Total, a.PerSecond)
	case a.Attack == "head-bombs":
		return fmt.Sprintf("%d requests of %d, %d a second", a.Result.Sent, a.Total, a.PerSecond)
	case a.isFlood():
		return fmt.Sprintf("%d of %d a second, over %d connections at once, for %v", a.Result.Sent, a.PerSecond, a.Connections, a.Lasts)
	default:
		return fmt.Sprintf("%d connections at once (%d were reached), at most %d new ones a second, for %v", a.Connections, a.Result.Most, a.PerSecond, a.Lasts)
	}
}

func processors(used, lasted time.Duration) string {
	return fmt.Sprintf("%.2f of a processor", used.Seconds()/max(lasted.Seconds(), 0.001))
}

// answers lists what the server said, the most frequent first.
func answers(counts map[string]int) string {
	if len(counts) == 0 {
		return "nothing"
	}
	var list []string
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return counts[b] - counts[a] })
	for _, name := range names {
		list = append(list, fmt.Sprintf("%d × %s", counts[name], name))
	}
	return strings.Join(list, ", ")
}

// cut judges whether the server ended the attackers' connections, and in time.
func (t *table) cut(a attacked) {
	r := a.Result
	t.line("connections that were never cut", fmt.Sprintf("%d of %d; the server ended %s", r.Spared, r.Opened, ended(r)), "0", r.Spared == 0 && r.Cut > 0)
	t.timeLine(fmt.Sprintf("connections that lived for more than %v", a.Bound), fmt.Sprintf("%d of %d", r.Outlived, r.Opened), "0", r.Outlived == 0)
	if a.Attack == "head-bombs" {
		good := 0
		for answer, n := range r.Answers {
			if strings.HasPrefix(answer, "2") {
				good += n
			}
		}
		t.line("heads that are too large and were served", fmt.Sprintf("%d of %d", good, r.Sent), "0", good == 0)
	}
	if r.Refused > 0 {
		t.fact("connections that could not be made", fmt.Sprint(r.Refused))
	}
}

// ended tells of the connections that the server ended.
func ended(r attack.Result) string {
	if r.Cut == 0 {
		return "none"
	}
	return fmt.Sprintf("%d, half of them within %s, the last after %s", r.Cut, ms(r.Half), ms(r.Longest))
}

// counted judges whether the worker's own counters tell of it. Handshakes have outcomes of their own.
func (t *table) counted(a attacked) {
	counted := false
	for name := range a.Moved {
		counted = counted || strings.HasPrefix(name, "refused_total") || a.Attack == "handshakes" && strings.Contains(name, `kind="handshake"`)
	}
	t.line("counted", tell(a.Moved), "by reason", counted)
}

const memoryBar = 600e6

func (t *table) memory(a attacked) {
	t.line("resident memory of the worker, at most", fmt.Sprintf("%.0f MB; before %.0f MB, at the end %.0f MB", mb(a.Memory.Most), mb(a.Memory.Before), mb(a.Memory.After)),
		"600 MB", a.Memory.Most <= memoryBar)
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }

// latency judges what others met.
func (t *table) latency(a attacked) {
	measured := fmt.Sprintf("%s; calm %s", ms(a.During.All.P99), ms(a.Calm.All.P99))
	if a.Control != nil {
		measured += "; with as much processor time burnt beside it " + ms(a.Control.All.P99)
	}
	bar := a.bar().of(a.Calm.All.P99)
	t.timeLine("p99 of others", measured, fmt.Sprintf("%v = %s", a.bar(), ms(bar)), a.During.All.P99 <= bar)
	t.fact("median of others; slowest", fmt.Sprintf("%s; %s. Calm %s; %s", ms(a.During.All.Median), ms(a.During.All.Slowest), ms(a.Calm.All.Median), ms(a.Calm.All.Slowest)))
}

// orders judges what the CA was asked for.
func (t *table) orders() {
	seen := t.m.Orders
	if seen == nil {
		return
	}
	t.line("orders for names that no rule knows", fmt.Sprint(total(seen.Strangers)), "0", total(seen.Strangers) == 0)
	for _, known := range seen.Known {
		says := ""
		for _, mode := range modes() {
			if mode.name == known.Mode {
				says = mode.says
			}
		}
		worst := 0
		for _, n := range known.Orders {
			worst = max(worst, n)
		}
		t.line("orders for a name of the rules, "+says, fmt.Sprintf("%d at most, the back-off had room for %d; %d for %d names", worst, known.Steps, total(known.Orders), known.Names),
			"1 for each step of the back-off", worst <= known.Steps)
	}
}

func total(counts map[string]int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

func (t *table) scans() {
	s := t.m.Scans
	if s == nil {
		return
	}
	unexplained := 0
	for _, f := range s.Findings {
		if chosen()[f.Scanner+" "+f.ID] == "" {
			unexplained++
		}
	}
	t.line("findings above LOW of "+strings.Join(s.Ran, " and "), fmt.Sprintf("%d, of which %d by choice; %d are LOW", len(s.Findings), len(s.Findings)-unexplained, s.Low),
		"0 but by choice", unexplained == 0)
}

func (t *table) conformance() {
	c := t.m.H2spec
	if c == nil {
		return
	}
	known, all := 0, c.unpassed()
	for _, f := range all {
		if explained()[f.key()] != "" {
			known++
		}
	}
	t.line("cases of h2spec that fail, or are skipped", fmt.Sprintf("%d and %d of %d, of which %d explained", len(c.Failed), len(c.Skipped), c.Cases, known),
		"0 but explained", known == len(all))
}

func (c *conformance) unpassed() []conformanceRow { return slices.Concat(c.Failed, c.Skipped) }

func (f conformanceRow) key() string { return f.Section + " " + f.Case }

func (t *table) smuggling() {
	if t.m.Smuggling == nil {
		return
	}
	failed, known := 0, 0
	for _, v := range t.m.Smuggling {
		if !v.Passed {
			failed++
			if reasons()[v.Name] != "" {
				known++
			}
		}
	}
	t.line("vectors of request smuggling over HTTP/1.1 that do harm", fmt.Sprintf("%d of %d, of which %d explained", failed, len(t.m.Smuggling), known), "0 but explained", known == failed)
}

const exposureBar = 1.5

func (t *table) exposure() {
	if level := t.m.Exposure; level != nil {
		t.line("exposure that systemd-analyze security sees", fmt.Sprintf("%.1f", *level), "1.5", *level <= exposureBar)
	}
}

// lists tells findings and failures one by one.
func (t *table) lists() {
	var list []string
	if s := t.m.Scans; s != nil {
		for _, f := range s.Findings {
			list = append(list, fmt.Sprintf("%s, %s, %s: %s%s", f.Scanner, f.Severity, f.ID, f.Says, because(chosen()[f.Scanner+" "+f.ID])))
		}
	}
	if c := t.m.H2spec; c != nil {
		for _, f := range c.unpassed() {
			list = append(list, fmt.Sprintf("h2spec, %s: %s: %s%s", f.Section, f.Case, f.Says, because(explained()[f.key()])))
		}
	}
	for _, v := range t.m.Smuggling {
		if !v.Passed {
			list = append(list, fmt.Sprintf("smuggling, %s: wanted: %s; got: %s%s", v.Name, v.Want, v.Got, because(reasons()[v.Name])))
		}
	}
	for i, line := range list {
		if i == 0 {
			fmt.Fprint(t.out, "\nOne by one:\n\n")
		}
		fmt.Fprintf(t.out, "- %s\n", line)
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ". By choice: " + reason
}

func ms(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
}
