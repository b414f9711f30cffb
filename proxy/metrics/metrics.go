// Package metrics counts what the data plane does, for Prometheus. Labels are bounded: nothing that a visitor sends
// becomes one.
package metrics

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is a registry of its own with what Cutover counts.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	failures *prometheus.CounterVec
	events   *prometheus.CounterVec
	own      *prometheus.CounterVec
	refused  *prometheus.CounterVec

	mu   sync.Mutex
	gone Outcome // of the requests of targets that are forgotten
}

// Causes of failures that are Cutover's own: no visitor and no target has a part in them. A deploy is judged by them.
const (
	Panic  = "panic"  // a fault of the program ended a request
	Accept = "accept" // a connection could not be taken from a socket, such as for want of descriptors
)

// causes lists them all, so that each is there from the start with zero.
func causes() []string { return []string{Panic, Accept} }

// Reasons for which guards do not let requests in.
const (
	RefusedAddress  = "address"  // it is denied, or not among those that are allowed
	RefusedRate     = "rate"     // the client comes too often
	RefusedPassword = "password" // none was given, or a wrong one
	RefusedAttempts = "attempts" // the client has given too many wrong passwords
	RefusedBusy     = "busy"     // too many passwords are being checked
	RefusedGuard    = "guard"    // its row makes no sense
	RefusedPath     = "path"     // it can be read in two ways, and guards tell them apart
)

func refusals() []string {
	return []string{RefusedAddress, RefusedRate, RefusedPassword, RefusedAttempts, RefusedBusy, RefusedGuard, RefusedPath}
}

// New returns metrics that all stand at zero.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cutover_requests_total", Help: "Requests answered, by version, upstream, target and class of the status code.",
		}, []string{"version", "upstream", "target", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cutover_request_duration_seconds", Help: "From the end of a request's head to the end of its answer; tunnels are left out.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"version"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cutover_upstream_failures_total", Help: "Attempts that a target did not answer, or not to the end, by cause.",
		}, []string{"upstream", "target", "cause"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cutover_events_total", Help: "Handshakes, streams passed on, PROXY headers, accept errors, certificates and answers of our own, by outcome.",
		}, []string{"kind", "outcome"}),
		own: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cutover_own_failures_total", Help: "Failures that Cutover itself caused, by cause; a deploy is judged by them.",
		}, []string{"cause"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cutover_refused_total", Help: "Connections and requests that a limit or a guard has refused or cut off, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range refusals() {
		m.refused.WithLabelValues(reason)
	}
	for _, cause := range causes() {
		m.own.WithLabelValues(cause)
	}
	m.registry.MustRegister(m.requests, m.duration, m.failures, m.events, m.own, m.refused,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers with everything, in the Prometheus text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Request counts an answered request. version, upstream and target are empty where nothing was forwarded. A nil
// Metrics counts nothing. How long a tunnel (101) was open says nothing about speed, so that is left out.
func (m *Metrics) Request(version, upstream, target string, status int, took time.Duration) {
	if m == nil {
		return
	}
	m.requests.WithLabelValues(version, upstream, target, class(status)).Inc()
	if status != http.StatusSwitchingProtocols {
		m.duration.WithLabelValues(version).Observe(took.Seconds())
	}
}

// class returns "2xx" and so on; there are few.
func class(status int) string {
	if status < 100 || status > 599 {
		return "other"
	}
	return strconv.Itoa(status/100) + "xx"
}

// Failure counts an attempt that a target did not answer, or not to the end.
func (m *Metrics) Failure(upstream, target, cause string) {
	if m != nil {
		m.failures.WithLabelValues(upstream, target, cause).Inc()
	}
}

// Forget takes the series of a target away that is gone, so that there are no more of them than targets. Totals still count its
// requests. A nil Metrics forgets nothing.
func (m *Metrics) Forget(upstream, target string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	labels := prometheus.Labels{"upstream": upstream, "target": target}
	of := Totals{}
	of.addAll(m.requests, func(l map[string]string) bool { return l["upstream"] == upstream && l["target"] == target })
	m.gone.Good += of.Requests.Good
	m.gone.Bad += of.Requests.Bad
	m.requests.DeletePartialMatch(labels)
	m.failures.DeletePartialMatch(labels)
}

// Event counts one of a kind's outcomes; both must come from a fixed set of words.
func (m *Metrics) Event(kind, outcome string) {
	if m != nil {
		m.events.WithLabelValues(kind, outcome).Inc()
	}
}

// OwnFailure counts a failure that Cutover itself caused. A nil Metrics counts nothing.
func (m *Metrics) OwnFailure(cause string) {
	if m != nil {
		m.own.WithLabelValues(cause).Inc()
	}
}

// Refused counts what a limit or a guard has refused or cut off; reason must come from a fixed set of words. A nil Metrics
// counts nothing.
func (m *Metrics) Refused(reason string) {
	if m != nil {
		m.refused.WithLabelValues(reason).Inc()
	}
}

// Gauge adds a value that is asked for whenever somebody looks. It panics if name is taken.
func (m *Metrics) Gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// GaugeBy adds values that are asked for whenever somebody looks, each told from the others by a label. There must be few of
// them. It panics if name is taken.
func (m *Metrics) GaugeBy(name, help, label string, values func() map[string]float64) {
	m.registry.MustRegister(labelled{prometheus.NewDesc(name, help, []string{label}, nil), values})
}

// labelled is a prometheus.Collector.
type labelled struct {
	description *prometheus.Desc
	values      func() map[string]float64
}

// Describe implements prometheus.Collector.
func (l labelled) Describe(into chan<- *prometheus.Desc) { into <- l.description }

// Collect implements prometheus.Collector.
func (l labelled) Collect(into chan<- prometheus.Metric) {
	for label, value := range l.values() {
		into <- prometheus.MustNewConstMetric(l.description, prometheus.GaugeValue, value, label)
	}
}
