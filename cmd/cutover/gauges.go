package main

import "log/slog"

// addGauges adds what is asked for whenever somebody looks at the metrics.
func (d *daemon) addGauges() {
	gauge := d.metrics.Gauge
	gauge("cutover_connections", "Open connections of clients.", func() float64 { return float64(d.frontend.Stats().Open) })
	gauge("cutover_requests_in_flight", "Requests under way, tunnels and event streams left out.", func() float64 { return float64(d.frontend.Stats().Requests) })
	gauge("cutover_event_streams", "Requests that are answered with a stream of events, which goes on until somebody ends it.", func() float64 { return float64(d.frontend.Stats().Streams) })
	gauge("cutover_tunnels", "Upgraded connections, such as WebSocket.", func() float64 { return float64(d.frontend.Stats().Tunnels) })
	gauge("cutover_rules", "Rules in force.", func() float64 { return float64(d.store.Load().Counts().Rules) })
	gauge("cutover_redirects", "Redirects in force.", func() float64 { return float64(d.store.Load().Counts().Redirects) })
	gauge("cutover_rule_problems", "Rows that are not served as they are written.", func() float64 { return float64(len(d.store.Snapshot().Problems)) })
	gauge("cutover_database_problem", "1 while the database has a problem; cutover status says which.", func() float64 {
		if d.store.Health().Problem != "" {
			return 1
		}
		return 0
	})
	gauge("cutover_certificates_stored", "Certificates in the storage.", func() float64 { return float64(d.certificates.Status().Stored) })
	gauge("cutover_certificates_backed_off", "Names that wait after a failed attempt.", func() float64 { return float64(len(d.certificates.Status().BackedOff)) })
}

func (d *daemon) countHandshake(result string)   { d.metrics.Event("handshake", result) }
func (d *daemon) countAcceptError(reason string) { d.metrics.Event("accept", reason) }

func (d *daemon) countCertificateEvent(event, name string, err error) {
	d.metrics.Event("certificate", event)
	if err == nil {
		d.log.Info("certificate "+event, slog.String("name", name))
	}
}
