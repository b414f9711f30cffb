package main

import (
	"context"
	"log/slog"
	"time"

	"cutover/proxy/frontend"
	"cutover/proxy/metrics"
	"cutover/proxy/upstream"
)

// addGauges adds what is asked for whenever somebody looks at the metrics.
func (d *daemon) addGauges() {
	gauge := d.metrics.Gauge
	front := func(of func(frontend.Stats) int) func() float64 {
		return func() float64 { return float64(of(d.front.Load().Stats())) }
	}
	gauge("cutover_connections", "Open connections of clients.", front(func(s frontend.Stats) int { return s.Open }))
	gauge("cutover_client_networks", "Client networks that have connections, trusted proxies left out.", func() float64 { return float64(d.limiter.Networks()) })
	gauge("cutover_memory_limit_bytes", "Memory that the process tries to stay within; 0 for no limit.", func() float64 { return float64(d.memory.Limit) })
	gauge("cutover_requests_in_flight", "Requests under way, tunnels and event streams left out.", front(func(s frontend.Stats) int { return s.Requests }))
	gauge("cutover_event_streams", "Requests that are answered with a stream of events, which goes on until somebody ends it.", front(func(s frontend.Stats) int { return s.Streams }))
	gauge("cutover_tunnels", "Upgraded connections, such as WebSocket.", front(func(s frontend.Stats) int { return s.Tunnels }))
	gauge("cutover_generations_draining", "Older processes that finish what they have.", func() float64 { return float64(len(d.older())) })
	gauge("cutover_rules", "Rules in force.", func() float64 { return float64(d.store.Load().Counts().Rules) })
	gauge("cutover_redirects", "Redirects in force.", func() float64 { return float64(d.store.Load().Counts().Redirects) })
	gauge("cutover_targets_failing", "Targets that fail: they get no requests while others of their upstream do not.", d.targetsFailing)
	d.metrics.GaugeBy("cutover_upstream_waiting", "Requests in line, since every target of their upstream has max_in_flight of them.", "upstream", func() map[string]float64 {
		return d.ofUpstreams(func(s *upstream.Status) float64 { return float64(s.Waiting) })
	})
	d.metrics.GaugeBy("cutover_upstream_open", "1 while the circuit breaker of an upstream is open: its visitors get 503.", "upstream", func() map[string]float64 {
		return d.ofUpstreams(func(s *upstream.Status) float64 {
			if s.OpenSince.IsZero() {
				return 0
			}
			return 1
		})
	})
	gauge("cutover_rule_problems", "Rows that are not served as they are written.", func() float64 { return float64(len(d.store.Snapshot().Problems)) })
	gauge("cutover_database_problem", "1 while the database has a problem; cutover status says which.", func() float64 {
		if d.store.Health().Problem != "" {
			return 1
		}
		return 0
	})
	gauge("cutover_certificates_stored", "Certificates in the storage.", func() float64 { return float64(d.certificates.Status().Stored) })
	d.metrics.GaugeBy("cutover_certificates", "Certificates, and names that wait for one, by state.", "state", d.certificateStates)
	d.metrics.GaugeBy("cutover_certificate_expiry_seconds", "Until a certificate in the rules ends, for the 20 that end first; below 0 it has ended.", "name", func() map[string]float64 {
		summary := d.desk.summarise(context.Background())
		return summary.soonest(time.Now())
	})
	gauge("cutover_certificates_backed_off", "Names that wait after a failed attempt.", func() float64 { return float64(len(d.certificates.Status().BackedOff)) })
	gauge("cutover_certificates_late", "Renewals that are due and did not succeed yet.", func() float64 { return float64(d.certificates.Status().Late) })
	gauge("cutover_certificate_orders", "Orders of new certificates within acme.orders_window.", func() float64 { return float64(d.certificates.Status().Budget.Orders) })
}

func (d *daemon) certificateStates() map[string]float64 {
	values := map[string]float64{}
	for state, n := range d.desk.summarise(context.Background()).states {
		values[string(state)] = float64(n)
	}
	return values
}

func (d *daemon) countHandshake(result string) { d.metrics.Event("handshake", result) }

func (d *daemon) countAcceptError(reason string) {
	d.metrics.Event("accept", reason)
	d.metrics.OwnFailure(metrics.Accept)
}

func (d *daemon) countCertificateEvent(event, name string, err error) {
	d.metrics.Event("certificate", event)
	if err == nil {
		d.log.Info("certificate "+event, slog.String("name", name))
	}
}

// ofUpstreams returns a number of each upstream.
func (d *daemon) ofUpstreams(number func(*upstream.Status) float64) map[string]float64 {
	values := map[string]float64{}
	for _, s := range d.upstreams.Status() {
		values[s.Name] = number(&s)
	}
	return values
}

func (d *daemon) targetsFailing() float64 {
	failing := 0
	for _, u := range d.upstreams.Status() {
		for _, t := range u.Targets {
			if !t.FailingSince.IsZero() {
				failing++
			}
		}
	}
	return float64(failing)
}
