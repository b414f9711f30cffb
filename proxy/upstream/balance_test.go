package upstream

import (
	"testing"
	"time"

	"cutover/rules"
)

func targetsOf(weights ...int) (list []*target) {
	for _, weight := range weights {
		list = append(list, &target{row: rules.Target{Weight: weight, State: rules.StateReady}, state: &state{}})
	}
	return list
}

// shares returns how many of 10,000 choices each target gets.
func shares(among []*target) []int {
	index := map[*target]int{}
	for i, t := range among {
		index[t] = i
	}
	counts := make([]int, len(among))
	for range 10_000 {
		counts[index[choose(among)]]++
	}
	return counts
}

func TestTargetsThatAreAlikeGetRequestsByWeight(t *testing.T) {
	for range 2 {
		among := targetsOf(9, 1)
		for _, one := range among {
			one.state.latency.add(10*time.Millisecond, time.Now())
		}
		if got := shares(among); got[1] < 800 || got[1] > 1200 { // 1,000 expected, with a standard deviation of 30
			t.Errorf("the light one gets %d of 10,000", got[1])
		}
	}
}

func TestTheTargetWithLessToDoIsPreferred(t *testing.T) {
	among := targetsOf(1, 1)
	among[0].state.inFlight.Store(3)
	if got := shares(among); got[0] < 2200 || got[0] > 2800 { // only where it is drawn twice
		t.Errorf("the busy one gets %d of 10,000", got[0])
	}
}

func TestAHeavyTargetIsNotBusyWithItsShareOfRequests(t *testing.T) {
	among := targetsOf(9, 1)
	among[0].state.inFlight.Store(90)
	among[1].state.inFlight.Store(10)
	if got := shares(among); got[1] < 800 || got[1] > 1200 {
		t.Errorf("the light one gets %d of 10,000", got[1])
	}
}

func TestTheTargetThatAnswersSoonerIsPreferredUntilItHasMoreToDo(t *testing.T) {
	among := targetsOf(1, 1)
	among[0].state.latency.add(100*time.Millisecond, time.Now())
	among[1].state.latency.add(10*time.Millisecond, time.Now())
	if got := shares(among); got[0] > 2800 {
		t.Errorf("the slow one gets %d of 10,000", got[0])
	}
	among[1].state.inFlight.Store(30)
	if got := shares(among); got[1] > 2800 {
		t.Errorf("the busy one gets %d of 10,000", got[1])
	}
}

func TestATargetThatWasNeverAskedIsComparedByWhatItHasToDo(t *testing.T) {
	among := targetsOf(1, 1)
	among[0].state.latency.add(10*time.Millisecond, time.Now())
	among[1].state.inFlight.Store(5)
	if got := shares(among); got[1] > 2800 {
		t.Errorf("the new one gets %d of 10,000", got[1])
	}
}

func TestATargetThatAnswersAgainGetsItsShareLittleByLittle(t *testing.T) {
	among := targetsOf(1, 1)
	now := time.Now()
	for _, moment := range []struct {
		ago     time.Duration
		atLeast int
		atMost  int
	}{{0, 700, 1150}, {slowStart / 2, 3000, 3650}, {slowStart, 4700, 5300}} { // 1/11, 1/3, 1/2
		readmitted := now.Add(-moment.ago)
		among[0].state.health.readmitted.Store(&readmitted)
		if got := shares(among); got[0] < moment.atLeast || got[0] > moment.atMost {
			t.Errorf("after %v it gets %d of 10,000", moment.ago, got[0])
		}
	}
}

func TestLatencyForgetsWithTimeAndIsNotRuledByLongPolls(t *testing.T) {
	var l latency
	now := time.Now()
	if l.get(now) != 0 {
		t.Error("there is a latency before any answer")
	}
	l.add(time.Hour, now)
	if got := l.get(now); got != longestLatency {
		t.Errorf("a long poll counts as %v", got)
	}
	l.add(0, now.Add(latencyMemory))
	if got := l.get(now); got < 360*time.Millisecond || got > 375*time.Millisecond { // 1/e of a second
		t.Errorf("after a while it is %v", got)
	}
	l.add(0, now) // a clock that goes back
	if got := l.get(now); got < 360*time.Millisecond || got > 375*time.Millisecond {
		t.Errorf("after an earlier time it is %v", got)
	}
	if got := l.get(now.Add(latencyMemory + forgotten + time.Second)); got != 0 {
		t.Errorf("long after it is %v", got)
	}
}
