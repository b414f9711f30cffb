package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// flawless is a measurement in which every bar is held.
func flawless() measured {
	a := away{
		How: "refused", Requests: map[phase]int{calmly: 10, missing: 10, after: 10}, Failed: map[phase]int{}, Calm: time.Millisecond,
		Without: 50 * time.Millisecond, Ejected: time.Second, Returned: time.Second, Early: 0.2, Late: 1,
	}
	return measured{
		Away:   []away{a},
		Faults: []faulty{{Fault: "hang", Outcomes: map[outcome]int{right: 1, honest: 1}, Slowest: 3 * time.Second}},
		Left:   &left{Before: held{10, 10}, After: held{20, 15}},
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
		"one of three targets dies and refuses: failed": func(m *measured) { m.Away[0].Failed[missing]++ },
		"one of three targets is black-holed: failed":   func(m *measured) { m.Away[0].How = "black-hole"; m.Away[0].Failed[after]++ },
		"… until it gets no more requests":              func(m *measured) { m.Away[0].Ejected = 0 },
		"… p99":                                         func(m *measured) { m.Away[0].Without = 52 * time.Millisecond },
		"… comes back":                                  func(m *measured) { m.Away[0].Early = 0.9 },
		"`hang`":                                        func(m *measured) { m.Faults[0].Outcomes[wrong]++ },
		"… the slowest answer":                          func(m *measured) { m.Faults[0].Slowest = 4 * time.Second },
		"goroutines and descriptors, once the visitors have left | 2": func(m *measured) { m.Left.After.Descriptors = 16 },
	} {
		m := flawless()
		spoil(&m)
		var text strings.Builder
		table, found := printTable(&text, false, m), false
		for line := range strings.Lines(text.String()) {
			found = found || strings.HasPrefix(line, "| "+want) && strings.HasSuffix(line, "| missed |\n")
		}
		if table.missed != 1 || !found {
			t.Errorf("%s: %d are missed:\n%s", want, table.missed, text.String())
		}
	}
}

func TestOnlyTheOwnAnswerAnHonestErrorOrAVisibleBreakIsAccepted(t *testing.T) {
	own, others := http.Header{answerTo: {"r1r"}}, http.Header{answerTo: {"r2r"}}
	body, cut := bytesOf("r1r", 100), errors.New("cut")
	for name, test := range map[string]struct {
		answer answer
		want   outcome
	}{
		"the whole answer":           {answer{http.StatusOK, own, body, nil}, right},
		"a 502":                      {answer{http.StatusBadGateway, http.Header{}, nil, nil}, honest},
		"half a 502":                 {answer{http.StatusBadGateway, http.Header{}, nil, cut}, wrong},
		"a 500":                      {answer{http.StatusInternalServerError, own, body, nil}, wrong},
		"half of it, visibly":        {answer{http.StatusOK, own, body[:50], cut}, broken},
		"half of it, unseen":         {answer{http.StatusOK, own, body[:50], nil}, wrong},
		"another's answer":           {answer{http.StatusOK, others, body, nil}, wrong},
		"another's body":             {answer{http.StatusOK, own, bytesOf("r2r", 100), nil}, wrong},
		"half of it and then others": {answer{http.StatusOK, own, bytesOf("r1r r2r", 100), cut}, wrong},
		"no answer":                  {answer{err: cut}, wrong},
	} {
		if got, detail := judge("r1r", 100, test.answer); got != test.want {
			t.Errorf("%s is %s (%s), want %s", name, got, detail, test.want)
		}
	}
}
