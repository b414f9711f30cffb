package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cutover/proxy/admin"
)

func TestTheStatusOfAnUpstreamSaysWhatItsVisitorsMeet(t *testing.T) {
	since := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	lines := upstreamStatusLines([]admin.UpstreamStatus{{
		Name: "v1", Waiting: 7, OpenSince: since, OpenBecause: "5 of 5 answers in 10 s have failed",
		Targets: []admin.TargetStatus{{URL: "http://127.0.0.1:1", LatencyMS: 12, CheckMS: 3.5, FailingSince: since, FailingBecause: "check /up: the answer is 500"}},
	}}, true)
	text := fmt.Sprint(lines)
	for _, want := range []string{"answers in 12 ms", "last check took 3.5 ms", "check /up: the answer is 500", "BREAKER OPEN since", "5 of 5 answers", "7 requests wait"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
}
