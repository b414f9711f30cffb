package main

import (
	"strings"
	"testing"
	"time"

	"cutover/scripts/e2e/restarts/load"
)

// flawless is a measurement in which every bar is held.
func flawless() measured {
	report := func() load.Report {
		return load.Report{Kinds: map[string]*load.Kind{"h1 new": {Requests: 10, Slowest: 20 * time.Millisecond}}, Resumed: 3, Worst: []time.Duration{20 * time.Millisecond}}
	}
	m := measured{Control: phase{Load: report()}, Restarts: phase{Load: report(), Restarts: []restart{{Took: time.Second}}}}
	for range 40 {
		m.Restarts.Usage = append(m.Restarts.Usage, usage{Processes: 2, Descriptors: 100, Memory: 50e6, Goroutines: 70})
	}
	return m
}

func TestATableOfAFlawlessMeasurementMissesNoBar(t *testing.T) {
	var text strings.Builder
	if missed, _ := printTable(&text, subjects()[0], 0, flawless()); missed != 0 {
		t.Errorf("%d are missed:\n%s", missed, text.String())
	}
}

func TestEveryBarCanBeMissed(t *testing.T) {
	for want, spoil := range map[string]func(*measured){
		"failed requests, resets, lost messages":                  func(m *measured) { m.Restarts.Load.Kinds["h1 new"].Failures++ },
		"the same in the control":                                 func(m *measured) { m.Control.Load.Kinds["h1 new"].Failures++ },
		"restarts that systemd calls failed":                      func(m *measured) { m.Restarts.Restarts[0].Said = "exit status 1" },
		"slowest request beyond the control's slowest":            func(m *measured) { m.Restarts.Load.Kinds["h1 new"].Slowest = 121 * time.Millisecond },
		"median of the worst of each restart":                     func(m *measured) { m.Restarts.Load.Worst[0] = 31 * time.Millisecond },
		"full TLS handshakes by resuming clients":                 func(m *measured) { m.Restarts.Load.FullHandshakes++ },
		"longest time in which connections waited to be accepted": func(m *measured) { m.Restarts.Unserved = 51 * time.Millisecond },
		"ListenOverflows and ListenDrops":                         func(m *measured) { m.Restarts.Dropped++ },
		"edits acknowledged and lost":                             func(m *measured) { m.Restarts.Edits.Lost = []string{"edit-1.test"} },
		"connections that a replaced process accepted":            func(m *measured) { m.Restarts.Usage[39].Late = 1 },
		"descriptors, last half against the first":                func(m *measured) { m.Restarts.Usage[39].Descriptors = 200 },
		"resident memory, MB, last half against the first":        func(m *measured) { m.Restarts.Usage[39].Memory = 100e6 },
		"goroutines, last half against the first":                 func(m *measured) { m.Restarts.Usage[39].Goroutines = 140 },
	} {
		m := flawless()
		spoil(&m)
		var text strings.Builder
		missed, _ := printTable(&text, subjects()[0], 0, m)
		found := false
		for line := range strings.Lines(text.String()) {
			found = found || strings.HasPrefix(line, "| "+want) && strings.HasSuffix(line, "| missed |\n")
		}
		if missed != 1 || !found {
			t.Errorf("%s: %d are missed:\n%s", want, missed, text.String())
		}
	}
}

func TestARoundTripIsAllowedOnTop(t *testing.T) {
	m := flawless()
	m.Restarts.Load.Kinds["h1 new"].Slowest = 145 * time.Millisecond
	var text strings.Builder
	if missed, _ := printTable(&text, subjects()[0], 30*time.Millisecond, m); missed != 0 {
		t.Errorf("%d are missed:\n%s", missed, text.String())
	}
}

func TestWhatWaitsInTheKernelsQueueIsSeen(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for table, want := range map[string]bool{
		head: false,
		head + "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n": false,
		head + "   0: 00000000:0050 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1\n": true,
		head + "   0: 00000000:01BB 00000000:0000 0A 00000000:00000100 00:00000000 00000000     0        0 1\n": true,
		head + "   0: 00000000:2329 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1\n": false,
		head + "   0: 00000000:0050 00000000:1234 01 00000000:00000002 00:00000000 00000000     0        0 1\n": false,
	} {
		if got := someWait(table); got != want {
			t.Errorf("%v for\n%s", got, table)
		}
	}
}

func TestTheLongestWaitOfTheQueueIsKept(t *testing.T) {
	q, now := &queue{}, time.Now()
	for i, some := range []bool{true, true, true, false, true, true, false} {
		q.look(now.Add(time.Duration(i)*time.Second), some)
	}
	if q.longest != 2*time.Second {
		t.Errorf("it is %v", q.longest)
	}
}

func TestRoundTripTimesAreMillisecondsSeparatedByCommas(t *testing.T) {
	if got, err := trips("0, 30,150"); err != nil || len(got) != 3 || got[1] != 30*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", "30ms", "-1", "0,,30", "5000"} {
		if got, err := trips(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
