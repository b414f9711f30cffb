package upstream

import (
	"net/url"
	"sync/atomic"

	"cutover/rules"
)

// target is a row with its counts.
type target struct {
	row    rules.Target
	url    *url.URL
	counts *counts

	current int // of smooth weighted round robin
}

// counts outlives a change of the row, as long as the URL stays.
type counts struct {
	inFlight           atomic.Int64
	requests, failures atomic.Uint64
	lastError          atomic.Pointer[string]
}

func newTarget(row rules.Target, address *url.URL, kept *counts) *target {
	if kept == nil {
		kept = &counts{}
	}
	return &target{row: row, url: address, counts: kept}
}

func (t *target) status() TargetStatus {
	s := TargetStatus{Target: t.row, InFlight: t.counts.inFlight.Load(), Requests: t.counts.requests.Load(), Failures: t.counts.failures.Load()}
	if text := t.counts.lastError.Load(); text != nil {
		s.LastError = *text
	}
	return s
}
