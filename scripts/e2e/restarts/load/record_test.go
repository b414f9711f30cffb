package load

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheWorstOfEachRestartIsThatOfRequestsThatEndedAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder()
		ask := func(took time.Duration) {
			due := time.Now()
			time.Sleep(took)
			r.answered("kind", due, 100*time.Millisecond)
		}
		ask(900 * time.Millisecond) // while all connect
		r.Mark()
		ask(150 * time.Millisecond)
		r.Mark()
		ask(130 * time.Millisecond)
		ask(400 * time.Millisecond)
		got := r.Report()
		if len(got.Worst) != 2 || got.Worst[0] != 50*time.Millisecond || got.Worst[1] != 300*time.Millisecond {
			t.Errorf("the worst are %v", got.Worst)
		}
		if k := got.Kinds["kind"]; k.Requests != 4 || k.Slowest != 300*time.Millisecond || k.Median != 50*time.Millisecond {
			t.Errorf("%+v", k)
		}
	})
}

func TestAFailureTellsHowLongAfterWhichRestartItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder()
		time.Sleep(time.Second)
		r.Mark()
		time.Sleep(20 * time.Millisecond)
		r.failed("kind", errors.New("gone"))
		got := r.Report()
		if f := got.Failed[0]; f.Mark != 1 || f.After != 20*time.Millisecond || f.At != 1020*time.Millisecond || got.Kinds["kind"].Failures != 1 {
			t.Errorf("%+v", f)
		}
	})
}
