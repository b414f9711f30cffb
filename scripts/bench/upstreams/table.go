package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// table is what a measurement is judged by.
type table struct {
	text   strings.Builder
	missed int // bars
	times  int // those of them that are times
	notes  []string
}

// printTable prints the figures, and judges them.
func printTable(out io.Writer, isShort bool, m measured) *table {
	t := &table{}
	for _, a := range m.Away {
		t.away(a, isShort)
	}
	for _, f := range m.Faults {
		t.faulty(f)
	}
	if m.Left != nil {
		t.left(*m.Left)
	}
	fmt.Fprintf(out, "| what | measured | bar | |\n|---|---|---|---|\n%s", t.text.String())
	for _, note := range t.notes {
		fmt.Fprintln(out, note)
	}
	return t
}

// line prints a row. A bar that is missed is counted.
func (t *table) line(what, measured, bar string, held bool) {
	verdict := "held"
	if !held {
		t.missed++
		verdict = "missed"
	}
	fmt.Fprintf(&t.text, "| %s | %s | %s | %s |\n", what, measured, bar, verdict)
}

// timeLine prints a row whose bar is a time: on a machine that is shared, it may be missed for no fault of the subject's.
func (t *table) timeLine(what, measured, bar string, held bool) {
	if !held {
		t.times++
	}
	t.line(what, measured, bar, held)
}

// ejectionBar is how soon a target gets no more requests.
func (a *away) ejectionBar() time.Duration {
	if a.How == "black-hole" {
		return 4 * time.Second
	}
	return time.Second
}

func (a *away) says() string {
	if a.How == "black-hole" {
		return "one of three targets is black-holed"
	}
	return "one of three targets dies and refuses"
}

// slower is how much more the p99 may be than in the calm.
const slower = 50 * time.Millisecond

func (t *table) away(a away, isShort bool) {
	failed := 0
	for _, n := range a.Failed {
		failed += n
	}
	t.line(a.says()+": failed safe requests", fmt.Sprintf("%d of %d in the calm, %d of %d while it is away, %d of %d once it is back",
		a.Failed[calmly], a.Requests[calmly], a.Failed[missing], a.Requests[missing], a.Failed[after], a.Requests[after]), "0", failed == 0)
	t.timeLine("… until it gets no more requests", orNever(a.Ejected), fmt.Sprint(a.ejectionBar()), a.Ejected > 0 && a.Ejected <= a.ejectionBar())
	t.timeLine("… p99 of the requests since then", ms(a.Without)+"; calm "+ms(a.Calm)+"; the slowest of all "+ms(a.Slowest), "50 ms beyond calm", a.Without > 0 && a.Without <= a.Calm+slower)
	late := fmt.Sprintf(", %.0f %% later", a.Late*100)
	if isShort {
		late = ""
	}
	t.timeLine("… comes back after "+ms(a.Returned)+": its part of an even share", fmt.Sprintf("%.0f %% in the first two seconds%s", a.Early*100, late),
		"at most 60 % at first", a.Early <= 0.6)
	for _, reason := range most(a.Reasons) {
		t.notes = append(t.notes, "- "+a.says()+": "+reason)
	}
}

func orNever(d time.Duration) string {
	if d == 0 {
		return "never"
	}
	return ms(d)
}

// lateness is what an answer may take beyond the upstream's own limit: a connection that was not made is tried elsewhere.
const lateness = 1500 * time.Millisecond

func (f *faulty) deadline() time.Duration {
	if f.Fault == "slow-body" {
		return 3*time.Second + lateness // which it takes by itself
	}
	return answersWithin + lateness
}

func (t *table) faulty(f faulty) {
	all := 0
	for _, n := range f.Outcomes {
		all += n
	}
	t.line(fmt.Sprintf("`%s`: %s", f.Fault, f.Says), fmt.Sprintf("%d right, %d honest, %d visibly broken, %d wrong",
		f.Outcomes[right], f.Outcomes[honest], f.Outcomes[broken], f.Outcomes[wrong]), "0 wrong", f.Outcomes[wrong] == 0 && all > 0)
	if f.Slowest > f.deadline() {
		t.timeLine("… the slowest answer", ms(f.Slowest), ms(f.deadline()), false)
	}
	for _, reason := range most(f.Wrong) {
		t.notes = append(t.notes, "- "+f.Fault+": "+reason)
	}
}

func (t *table) left(l left) {
	t.line("goroutines and descriptors, once the visitors have left", fmt.Sprintf("%d and %d; before %d and %d, at most %d and %d",
		l.After.Goroutines, l.After.Descriptors, l.Before.Goroutines, l.Before.Descriptors, l.Most.Goroutines, l.Most.Descriptors),
		"as before, and at most 10 and 5 more", l.Before.covers(l.After))
}

func ms(d time.Duration) string {
	if d >= time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
}
