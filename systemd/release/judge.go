package release

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Sample is what a serving process says of itself at one moment.
type Sample struct {
	PID      int
	Version  string
	Ready    bool
	NotReady string // why not
	Uptime   time.Duration

	// Counts says that the counters below are there; releases before 'cutover deploy' had none.
	Counts   bool
	Failures map[string]uint64  // that Cutover itself caused, since the process began, by cause
	Outcomes map[string]Outcome // of work that others may fail, too, by kind

	LastEdit time.Time // of the rules
	Problems int       // rows that are not served as they are written
}

// Outcome counts what went well and what did not since the process began.
type Outcome struct{ Good, Bad uint64 }

// baseline is what was normal before the deploy.
type baseline struct {
	known    bool
	perSec   map[string]float64 // own failures a second, by cause
	worked   map[string]bool    // kinds of work of which some went well just before the swap
	lastEdit time.Time
	problems int
	running  bool
}

// newBaseline takes the higher of two rates: over the old process's life, and between two moments of the deploy, since
// what has just begun to fail is not the new release's doing. Either sample may be nil.
func newBaseline(first, last *Sample, between time.Duration) baseline {
	if last == nil {
		return baseline{}
	}
	b := baseline{running: true, known: last.Counts, perSec: map[string]float64{}, worked: map[string]bool{}, lastEdit: last.LastEdit, problems: last.Problems}
	for cause, n := range last.Failures {
		b.perSec[cause] = rate(n, last.Uptime)
		if first != nil && first.PID == last.PID && n >= first.Failures[cause] {
			b.perSec[cause] = max(b.perSec[cause], rate(n-first.Failures[cause], between))
		}
	}
	for kind, outcome := range last.Outcomes {
		b.worked[kind] = first != nil && first.PID == last.PID && outcome.Good > first.Outcomes[kind].Good
	}
	return b
}

// rate counts what took less than a second as if it had taken one: so short a time says little.
func rate(n uint64, took time.Duration) float64 { return float64(n) / max(took.Seconds(), 1) }

const (
	// fewest is how many failures of its own a release may have whatever was before: a single one may be anybody's bad luck.
	fewest = 3
	// worse is how many times the rate of before is too much.
	worse = 2
	// hopeless is after how many failures in a row nothing seems to work any more.
	hopeless = 10
)

// objection says why a release is worse than what was before, "" if it is not. span is the time of the whole judging, so
// that a burst at its beginning does not count for more than it is.
func (b *baseline) objection(s *Sample, span time.Duration) string {
	if !s.Counts {
		return ""
	}
	for _, cause := range slices.Sorted(maps.Keys(s.Failures)) {
		if text := b.ofCause(cause, s.Failures[cause], span); text != "" {
			return text
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(s.Outcomes)) {
		if o := s.Outcomes[kind]; b.worked[kind] && o.Good == 0 && o.Bad >= hopeless {
			return fmt.Sprintf("not one of %d %s went well, and until the swap they did", o.Bad, kind)
		}
	}
	if b.running && s.LastEdit.Equal(b.lastEdit) && s.Problems > b.problems {
		return fmt.Sprintf("%d rows of the rules are not served as they are written, before it were %d, and nobody has edited them", s.Problems, b.problems)
	}
	return ""
}

func (b *baseline) ofCause(cause string, n uint64, span time.Duration) string {
	if b.running && !b.known {
		return "" // there is nothing to compare with
	}
	allowed := worse * b.perSec[cause] * span.Seconds()
	if n < fewest || float64(n) <= allowed {
		return ""
	}
	return fmt.Sprintf("it has caused %d failures itself (%s), at most %.0f were to be expected from before", n, cause, allowed)
}

// describe is what is shown while a release is being judged.
func (s *Sample) describe() string {
	if !s.Counts {
		return "ready; it counts no failures of its own"
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(s.Outcomes)) {
		o := s.Outcomes[kind]
		parts = append(parts, fmt.Sprintf("%d %s, %d of them failed", o.Good+o.Bad, kind, o.Bad))
	}
	own := uint64(0)
	for _, n := range s.Failures {
		own += n
	}
	return strings.Join(append(parts, fmt.Sprintf("%d failures of Cutover's own", own)), "; ")
}
