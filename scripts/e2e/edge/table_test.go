package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"cutover/scripts/e2e/edge/attack"
	"cutover/scripts/e2e/edge/smuggle"
	"cutover/scripts/e2e/restarts/load"
)

// flawless is a measurement in which every bar is held.
func flawless() measured {
	calm := load.Report{All: load.Kind{Requests: 100, P99: 10 * time.Millisecond}}
	one := func(name string) attacked {
		return attacked{
			trial: trial{Attack: name, Bound: 5 * time.Second}, Calm: calm, During: calm,
			Result: attack.Result{Opened: 10, Cut: 10, Most: 10, Sent: 10, Answers: map[string]int{"431": 10}, Lasted: time.Second},
			Memory: memory{Most: 100e6}, Moved: map[string]float64{`refused_total{reason="slow"}`: 10}, Idle: idle{Of: 2, Calm: 1.5, During: 1},
		}
	}
	level := 1.3
	return measured{
		Attacks: []attacked{one("handshakes"), one("head-bombs")},
		Orders: &ordersSeen{Strangers: map[string]int{}, Known: []orderedNames{
			{Mode: caUp, Names: 30, Steps: 1, Orders: map[string]int{"up-1.known.test": 1}},
		}},
		Scans: &scans{Ran: []string{"sslscan 2"}, Low: 1}, H2spec: &conformance{Cases: 140},
		Smuggling: []smuggled{{Name: "CL.TE", Want: smuggle.Either, Got: "400, 0 forwarded", Passed: true}}, Exposure: &level,
	}
}

func TestATableOfAFlawlessMeasurementMissesNoBar(t *testing.T) {
	var text strings.Builder
	if table := printTable(&text, false, flawless()); table.missed != 0 {
		t.Errorf("%d are missed:\n%s", table.missed, text.String())
	}
}

func TestEveryBarCanBeMissed(t *testing.T) {
	for want, spoil := range map[string]func(*measured){
		"orders for names that no rule knows":                    func(m *measured) { m.Orders.Strangers["stranger.test"] = 1 },
		"orders for a name of the rules, while their validation": func(m *measured) { m.Orders.Known[0].Orders["up-1.known.test"] = 2 },
		"connections that were never cut":                        func(m *measured) { m.Attacks[1].Result.Spared = 1 },
		"connections that lived for more than 5s":                func(m *measured) { m.Attacks[1].Result.Outlived = 1 },
		"heads that are too large and were served":               func(m *measured) { m.Attacks[1].Result.Answers["200"] = 1 },
		"counted":                                func(m *measured) { m.Attacks[0].Moved = nil },
		"resident memory of the worker, at most": func(m *measured) { m.Attacks[0].Memory.Most = 601e6 },
		"p99 of others":                          func(m *measured) { m.Attacks[0].During.All.P99 = 14 * time.Millisecond },
		"failed requests of others":              func(m *measured) { m.Attacks[0].During.All.Failures = 1 },
		"the worker goes on":                     func(m *measured) { m.Attacks[0].Died = true },
		"findings above LOW of sslscan":          func(m *measured) { m.Scans.Findings = []finding{{"sslscan", "tls1.0", "HIGH", "it is enabled"}} },
		"cases of h2spec that fail":              func(m *measured) { m.H2spec.Failed = []conformanceRow{{"9.9", "a case", "why"}} },
		"vectors of request smuggling over HTTP/1.1 that do harm": func(m *measured) { m.Smuggling[0].Passed = false },
		"exposure that systemd-analyze security sees":             func(m *measured) { *m.Exposure = 1.6 },
	} {
		m := flawless()
		spoil(&m)
		var text strings.Builder
		table := printTable(&text, true, m)
		missed, times := table.missed, table.times
		if isTime := strings.HasPrefix(want, "p99") || strings.Contains(want, "lived for"); times != 0 != isTime {
			t.Errorf("%s: %d are times", want, times)
		}
		found := false
		for line := range strings.Lines(text.String()) {
			found = found || strings.HasPrefix(line, "| "+want) && strings.HasSuffix(line, "| missed |\n")
		}
		if missed != 1 || !found {
			t.Errorf("%s: %d are missed:\n%s", want, missed, text.String())
		}
	}
}

func TestASummaryHasALineForEachAttackAndTellsWhatIsMissed(t *testing.T) {
	m := flawless()
	m.Attacks[1].Memory.Most, m.Attacks[1].Result.Opened, m.Orders.Strangers["stranger.test"] = 601e6, 12345, 1
	var text strings.Builder
	printTable(io.Discard, false, m).summary(&text)
	for _, want := range []string{
		"| `head-bombs`, 10 at once | 0 of 12,345 | 0 | 601 MB | `slow` | 10.0; calm 10.0 | missed: resident memory of the worker, at most |\n",
		"| orders for names that no rule knows | 1 | 0 | missed |\n",
		"| exposure that systemd-analyze security sees | 1.3 | 1.5 | held |\n",
		"| failed requests of others during all attacks | 0 of 200 | 0 | held |\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("it lacks %s:\n%s", want, text.String())
		}
	}
}

func TestATableSaysWhetherTheMachineWasBusy(t *testing.T) {
	m := flawless()
	for busy, idle := range map[bool]float64{true: 0.9, false: 1.1} {
		m.Attacks[0].Idle.Calm = idle
		var text strings.Builder
		printTable(&text, false, m)
		if strings.Contains(text.String(), "times say nothing") != busy {
			t.Errorf("%.1f idle:\n%s", idle, text.String())
		}
	}
}

func TestAMachineThatIsBusyIsToBlameForTheFailuresOfOthers(t *testing.T) {
	m := flawless()
	m.Attacks[0].Idle.Calm, m.Attacks[0].During.All.Failures = 0.5, 1
	if table := printTable(io.Discard, true, m); table.missed != 1 || table.times != 1 {
		t.Errorf("%d are missed, %d of them times", table.missed, table.times)
	}
}

func TestTheBarOfOthersFollowsTheCalm(t *testing.T) {
	for name, want := range map[string]time.Duration{"handshakes": 13 * time.Millisecond, "slow-heads": 17 * time.Millisecond} {
		if got := (trial{Attack: name}).bar().of(10 * time.Millisecond); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestEachTrialIsAnAttackThatThereIs(t *testing.T) {
	for _, size := range []sizes{full(), short()} {
		var names []string
		for _, trial := range size.trials() {
			names = append(names, trial.Attack)
			if _, err := attack.Find(trial.Attack); err != nil {
				t.Error(err)
			}
			if trial.Attack != "handshakes" && (trial.Bound == 0 || trial.Lasts > 0 && trial.Lasts <= trial.Bound) {
				t.Errorf("%s lasts %v, and a connection may live %v", trial.Attack, trial.Lasts, trial.Bound)
			}
		}
		if len(names) != len(attack.All()) {
			t.Errorf("only %v are tried", names)
		}
	}
}

func TestStepsOfTheBackOffFollowTheSchedule(t *testing.T) {
	for lasting, want := range map[time.Duration]int{0: 1, 47 * time.Second: 1, 49 * time.Second: 2, 528 * time.Second: 3, 3 * time.Hour: 4} {
		if got := stepsIn(lasting); got != want {
			t.Errorf("%v: %d", lasting, got)
		}
	}
}

func TestPartsAreChosenByName(t *testing.T) {
	if list, err := choose("scans,unit"); err != nil || len(list) != 2 || !wanted(list, "unit") || wanted(list, "h2spec") || !wanted(nil, "h2spec") {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := choose("scan"); err == nil {
		t.Error("a part that is not there was chosen")
	}
}
