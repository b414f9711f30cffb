package main

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"cutover/proxy/metrics"
)

// refusals counts what is refused to strangers, and logs it: a line a second for each reason, with the number of those that
// it left out. A flood must not become one of the journal.
type refusals struct {
	metrics *metrics.Metrics
	log     *slog.Logger

	mu      sync.Mutex
	reasons map[string]*refusal
}

// refusal is what was said of one reason.
type refusal struct {
	next    time.Time // when it may be said again
	omitted int
}

func newRefusals(m *metrics.Metrics, log *slog.Logger) *refusals {
	return &refusals{metrics: m, log: log, reasons: map[string]*refusal{}}
}

// count counts one refusal; client may be nil.
func (r *refusals) count(reason string, client net.Addr) {
	r.metrics.Refused(reason)
	omitted, pass := r.pass(reason, time.Now())
	if !pass {
		return
	}
	address := ""
	if client != nil {
		address = client.String()
	}
	r.log.Warn("a limit cut a client off: 'Limits' in docs/operations.md", slog.String("reason", reason),
		slog.String("client", address), slog.Int("others", omitted))
}

func (r *refusals) pass(reason string, now time.Time) (omitted int, pass bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.reasons[reason]
	if last == nil {
		last = &refusal{}
		r.reasons[reason] = last
	}
	if now.Before(last.next) {
		last.omitted++
		return 0, false
	}
	omitted = last.omitted
	*last = refusal{next: now.Add(time.Second)}
	return omitted, true
}
