package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"cutover/scripts/e2e/restarts/load"
)

// table is what one round-trip time is judged by.
type table struct {
	out    io.Writer
	trip   time.Duration
	m      measured
	missed int // bars
	slow   int // those of them that are times
}

// printTable prints the figures of a round-trip time, and what failed, and returns how many bars are missed, and how many of
// those are times.
func printTable(out io.Writer, what subject, trip time.Duration, m measured) (missed, slow int) {
	t := &table{out: out, trip: trip, m: m}
	fmt.Fprintf(out, "\n## %s, round-trip time %v: %d times in %v, beside %v without\n\n| what | measured | bar | |\n|---|---|---|---|\n",
		what.name, trip, len(m.Restarts.Restarts), m.Restarts.Load.Lasted.Round(time.Second), m.Control.Load.Lasted.Round(time.Second))
	t.failures()
	t.latency()
	t.handshakes()
	t.acceptors()
	t.growth()
	if what.isCutover() {
		t.edits()
	}
	t.kinds()
	t.list("without restarts", m.Control.Load)
	t.list("with restarts", m.Restarts.Load)
	return t.missed, t.slow
}

// line prints a row. A bar that is missed is counted.
func (t *table) line(what, measured, bar string, held bool) {
	verdict := "held"
	if !held {
		verdict = "missed"
		t.missed++
	}
	fmt.Fprintf(t.out, "| %s | %s | %s | %s |\n", what, measured, bar, verdict)
}

// timeLine prints a row whose bar is a time: on a machine that is shared, it may be missed for no fault of the subject's.
func (t *table) timeLine(what, measured, bar string, held bool) {
	if !held {
		t.slow++
	}
	t.line(what, measured, bar, held)
}

func totals(r load.Report) (requests, failures int) {
	for _, k := range r.Kinds {
		requests += k.Requests
		failures += k.Failures
	}
	return requests, failures
}

func (t *table) failures() {
	requests, failures := totals(t.m.Restarts.Load)
	t.line("failed requests, resets, lost messages", fmt.Sprintf("%d of %d", failures, requests), "0", failures == 0)
	requests, failures = totals(t.m.Control.Load)
	t.line("the same in the control", fmt.Sprintf("%d of %d", failures, requests), "0", failures == 0)
	failed, longest := 0, time.Duration(0)
	for _, r := range t.m.Restarts.Restarts {
		longest = max(longest, r.Took)
		if r.Said != "" {
			failed++
		}
	}
	t.line("restarts that systemd calls failed", fmt.Sprintf("%d; the longest took %v", failed, ms(longest)), "0", failed == 0)
}

// latency compares each kind of client with the same kind in the control.
func (t *table) latency() {
	beyond, slowest := time.Duration(0), "none"
	for name, k := range t.m.Restarts.Load.Kinds {
		control := time.Duration(0)
		if c := t.m.Control.Load.Kinds[name]; c != nil {
			control = c.Slowest
		}
		if k.Slowest-control > beyond {
			beyond, slowest = k.Slowest-control, fmt.Sprintf("%s: %s, in the control %s", name, ms(k.Slowest), ms(control))
		}
	}
	bar := 100*time.Millisecond + t.trip
	t.timeLine("slowest request beyond the control's slowest of its kind", fmt.Sprintf("%s (%s)", ms(beyond), slowest), ms(bar), beyond <= bar)
	worst, control := median(t.m.Restarts.Load.Worst), median(t.m.Control.Load.Worst)
	measured := fmt.Sprintf("%s; the control's %s", ms(worst), ms(control))
	if t.trip > 0 {
		fmt.Fprintf(t.out, "| median of the worst of each restart | %s | at 0 ms only | |\n", measured)
		return
	}
	t.timeLine("median of the worst of each restart", measured, "30 ms", worst <= 30*time.Millisecond)
}

func (t *table) handshakes() {
	r := t.m.Restarts.Load
	t.line("full TLS handshakes by resuming clients", fmt.Sprintf("%d of %d", r.FullHandshakes, r.FullHandshakes+r.Resumed), "0", r.FullHandshakes == 0)
}

// acceptors judges by the kernel's queue: the product does not tell who accepts.
func (t *table) acceptors() {
	unserved, control := t.m.Restarts.Unserved, t.m.Control.Unserved
	t.timeLine("longest time in which connections waited to be accepted", fmt.Sprintf("%s; the control's %s", ms(unserved), ms(control)),
		"50 ms beyond the control's", unserved <= control+50*time.Millisecond)
	dropped := t.m.Restarts.Dropped
	t.line("ListenOverflows and ListenDrops", fmt.Sprint(dropped), "0", dropped == 0)
	late, told := 0, false
	for _, u := range t.m.Restarts.Usage {
		late, told = late+max(0, u.Late), told || u.Late >= 0
	}
	if told {
		t.line("connections that a replaced process accepted", fmt.Sprint(late), "0", late == 0)
	}
}

// rampUp is how many restarts it takes until as many processes drain as ever will.
const rampUp = 8

// growth compares the last half of the restarts with the first half, once there are enough to tell. The edits make the data
// grow meanwhile, which the control shows.
func (t *table) growth() {
	if len(t.m.Restarts.Usage) < 3*rampUp {
		fmt.Fprintln(t.out, "| descriptors, memory, goroutines, last half against the first | too few restarts to tell | within 5 % | |")
		return
	}
	for _, what := range []struct {
		name string
		of   func(usage) float64
	}{
		{"descriptors", func(u usage) float64 { return float64(u.Descriptors) }},
		{"resident memory, MB", func(u usage) float64 { return float64(u.Memory) / 1e6 }},
		{"goroutines", func(u usage) float64 { return float64(u.Goroutines) }},
	} {
		before, after := halves(t.m.Restarts.Usage, what.of)
		if before == 0 && after == 0 {
			continue // it does not tell
		}
		grown, anyway := after/before, 1.0
		if first, last := halves(t.m.Control.Usage, what.of); first > 0 {
			anyway = last / first
		}
		t.line(what.name+", last half against the first", fmt.Sprintf("%.1f after %.1f, %+.1f %%; in the control %+.1f %%", after, before, 100*(grown-1), 100*(anyway-1)),
			"5 % beyond the control's", grown <= 0.05+max(1, anyway))
	}
}

// halves returns the means of the first and of the last half of what was used once as many processes drained as ever would.
func halves(list []usage, of func(usage) float64) (first, last float64) {
	if len(list) < 3*rampUp {
		return 0, 0
	}
	steady := list[rampUp:]
	half := len(steady) / 2
	return mean(steady[:half], of), mean(steady[len(steady)-half:], of)
}

func (t *table) edits() {
	e := t.m.Restarts.Edits
	t.line("edits acknowledged and lost", fmt.Sprintf("%d of %d", len(e.Lost), e.Acknowledged), "0", len(e.Lost) == 0)
	fmt.Fprintf(t.out, "| edits refused; the slowest | %d; %s. %.120s | | |\n", e.Refused, ms(e.Slowest), strings.Join(strings.Fields(e.Said), " "))
}

// kinds prints a row for each kind of client.
func (t *table) kinds() {
	fmt.Fprintf(t.out, "\n| client | requests | failed | median | p99 | slowest | in the control: failed | median | p99 | slowest |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(t.m.Restarts.Load.Kinds)) {
		k, c := t.m.Restarts.Load.Kinds[name], t.m.Control.Load.Kinds[name]
		if c == nil {
			c = &load.Kind{}
		}
		fmt.Fprintf(t.out, "| %s | %d | %d | %s | %s | %s | %d | %s | %s | %s |\n", name, k.Requests, k.Failures,
			ms(k.Median), ms(k.P99), ms(k.Slowest), c.Failures, ms(c.Median), ms(c.P99), ms(c.Slowest))
	}
	r := t.m.Restarts.Load
	fmt.Fprintf(t.out, "\nIdle connections ended in order: %d. HTTP/1.1 answers that announced the end: %d. HTTP/2 connections told to go: %d.\n",
		r.IdleCloses, r.LastAnswers, r.GoAways)
}

// list prints what failed: how often for each reason, and the first.
func (t *table) list(when string, r load.Report) {
	if len(r.Failed) == 0 {
		return
	}
	fmt.Fprintf(t.out, "\nFailures %s:\n\n", when)
	for _, reason := range slices.Sorted(maps.Keys(r.Reasons)) {
		fmt.Fprintf(t.out, "- %d × %s\n", r.Reasons[reason], reason)
	}
	fmt.Fprint(t.out, "\nThe first of them:\n\n")
	for _, f := range r.Failed {
		fmt.Fprintf(t.out, "- %v (%v after mark %d), %d bytes of the answer seen: %s: %s\n",
			f.At.Round(time.Millisecond), f.After.Round(time.Millisecond), f.Mark, f.Seen, f.Kind, f.Detail)
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }

func median(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func mean(list []usage, of func(usage) float64) float64 {
	sum := 0.0
	for _, u := range list {
		sum += of(u)
	}
	return sum / float64(len(list))
}
