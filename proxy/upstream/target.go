package upstream

import (
	"sync/atomic"
	"time"

	"cutover/rules"
)

// target is a row with what is known of it.
type target struct {
	row         rules.Target
	source      string // see found
	spot        uint64 // of its URL, for favourite
	connections *connections
	state       *state
	line        *line // of its upstream
}

// state outlives a change of the row, as long as the URL stays.
type state struct {
	inFlight           atomic.Int64
	requests, failures atomic.Uint64
	lastError          atomic.Pointer[string]
	latency            latency
	health             health
	waits              waits
	doubtedUntil       atomic.Int64 // Unix time in nanoseconds
	checkTook          atomic.Int64 // nanoseconds; 0 for no check
	credit             float64      // of turns, by whose lock it is held
}

// newTarget returns a target that keeps the connections and the state of the one before it, if there was one with the same URL;
// its connections only if they still are as they must be. An error says that the URL makes no sense.
func newTarget(row found, before *target, m manner, o Options) (*target, error) {
	address, err := row.address()
	if err != nil {
		return nil, err
	}
	t := &target{row: row.Target, source: row.source, spot: spotOf(row.URL), state: &state{}}
	if before != nil {
		t.state, t.connections = before.state, before.connections
	}
	if t.connections == nil || t.connections.manner != m || t.connections.address != address {
		t.connections = newConnections(o, address, m)
	}
	return t, nil
}

// isReady reports whether the target may get requests at all.
func (t *target) isReady() bool { return t.row.State == rules.StateReady && t.row.Weight > 0 }

func (t *target) fails() bool { return t.state.health.failing.Load() != nil }

func (t *target) status() TargetStatus {
	s := TargetStatus{
		Target: t.row, Source: t.source, InFlight: t.state.inFlight.Load(), Requests: t.state.requests.Load(), Failures: t.state.failures.Load(),
		Latency: t.state.latency.get(time.Now()),
	}
	if t.state.health.checked.Load() {
		s.Checked = time.Duration(t.state.checkTook.Load())
	}
	if text := t.state.lastError.Load(); text != nil {
		s.LastError = *text
	}
	if f := t.state.health.failing.Load(); f != nil {
		s.FailingSince, s.FailingBecause = f.since, f.why
	}
	return s
}
