package metrics

import "github.com/prometheus/client_golang/prometheus"

// Totals are sums since the process began, for those who compare two releases.
type Totals struct {
	OwnFailures map[string]uint64 `json:"own_failures"` // that Cutover itself caused, by cause
	Requests    Outcome           `json:"requests"`     // those that were not answered with 5xx, and those that were, whoever's fault that is
	Handshakes  Outcome           `json:"handshakes"`   // TLS
	Refused     map[string]uint64 `json:"refused"`      // what limits and guards have refused or cut off, by reason
}

// Outcome counts what went well and what did not.
type Outcome struct {
	Good uint64 `json:"good"`
	Bad  uint64 `json:"bad"`
}

func (o *Outcome) add(good bool, n float64) {
	if good {
		o.Good += uint64(n)
	} else {
		o.Bad += uint64(n)
	}
}

// Totals sums up what was counted so far.
func (m *Metrics) Totals() Totals {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := Totals{OwnFailures: map[string]uint64{}, Refused: map[string]uint64{}, Requests: m.gone}
	for _, counters := range []prometheus.Collector{m.own, m.refused, m.requests, m.events} {
		t.addAll(counters, func(map[string]string) bool { return true })
	}
	return t
}

// addAll adds the counters of a collector whose labels are wanted.
func (t *Totals) addAll(counters prometheus.Collector, wanted func(labels map[string]string) bool) {
	registry := prometheus.NewRegistry() // of these alone: others ask who may wait for us
	registry.MustRegister(counters)
	families, _ := registry.Gather() // counters have no errors
	for _, family := range families {
		for _, counter := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range counter.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			if wanted(labels) {
				t.add(family.GetName(), labels, counter.GetCounter().GetValue())
			}
		}
	}
}

func (t *Totals) add(name string, labels map[string]string, n float64) {
	switch {
	case name == "cutover_own_failures_total":
		t.OwnFailures[labels["cause"]] += uint64(n)
	case name == "cutover_refused_total" && n > 0:
		t.Refused[labels["reason"]] += uint64(n)
	case name == "cutover_requests_total":
		t.Requests.add(labels["code"] != "5xx", n)
	case name == "cutover_events_total" && labels["kind"] == "handshake":
		t.Handshakes.add(labels["outcome"] == "ok" || labels["outcome"] == "passed", n) // the latter are ended elsewhere
	}
}
