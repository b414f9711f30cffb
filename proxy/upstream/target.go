package upstream

import (
	"net/url"
	"sync/atomic"

	"cutover/rules"
)

// target is a row with what is known of it.
type target struct {
	row   rules.Target
	url   *url.URL
	state *state
}

// state outlives a change of the row, as long as the URL stays.
type state struct {
	inFlight           atomic.Int64
	requests, failures atomic.Uint64
	lastError          atomic.Pointer[string]
	latency            latency
	health             health
}

func newTarget(row rules.Target, address *url.URL, kept *state) *target {
	if kept == nil {
		kept = &state{}
	}
	return &target{row: row, url: address, state: kept}
}

// isReady reports whether the target may get requests at all.
func (t *target) isReady() bool { return t.row.State == rules.StateReady && t.row.Weight > 0 }

func (t *target) fails() bool { return t.state.health.failing.Load() != nil }

func (t *target) status() TargetStatus {
	s := TargetStatus{
		Target: t.row, InFlight: t.state.inFlight.Load(), Requests: t.state.requests.Load(), Failures: t.state.failures.Load(),
		Latency: t.state.latency.get(),
	}
	if text := t.state.lastError.Load(); text != nil {
		s.LastError = *text
	}
	if f := t.state.health.failing.Load(); f != nil {
		s.FailingSince = f.since
	}
	return s
}
