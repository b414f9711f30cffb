package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"cutover/proxy"
	"cutover/proxy/admin"
	"cutover/rules"
	"cutover/systemd"
	"cutover/systemd/takeover"
	"cutover/tlsbridge"
)

func (d *daemon) openAdmin() error {
	keys := &admin.Keys{Path: d.config.AdminKeys}
	if len(d.sockets[systemd.Admin]) > 0 {
		if err := keys.Check(); err != nil {
			return fmt.Errorf("admin_keys: %w", err)
		}
	}
	for _, listener := range d.sockets[systemd.Admin] {
		d.adminListeners = append(d.adminListeners, newAdminListener(listener))
	}
	d.admin = &admin.Server{
		Prefetcher: prefetcher{d.certificates}, Certificates: d.desk,
		TrustPeer: takeover.SameService,
		Store:     d.store, Decide: func(r *http.Request) rules.Decision { return d.handler.Decide(r) },
		Guarding: func(r *http.Request) proxy.Guarding { return d.handler.Guarding(r) },
		Status:   d.parts, Ready: d.ready, Metrics: d.metrics.Handler(), Keys: keys, Log: d.log, Version: version,
	}
	return nil
}

// serveAdmin answers the API on TCP, where systemd hands a socket over for it.
func (d *daemon) serveAdmin(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, listener := range d.adminListeners {
		group.Go(func() error { return d.admin.ServeTCP(ctx, listener) })
	}
	return group.Wait()
}

var errDraining = errors.New("the process is stopping and finishes what is open")

func (d *daemon) ready() error {
	if d.front.Load().Draining() {
		return errDraining
	}
	return nil
}

// alive is asked by the watchdog. It goes the way of a request as far as our own locks: should they be stuck, so is this,
// and systemd starts the process anew. A disk that hangs is no reason to: the rules in memory serve on.
func (d *daemon) alive() bool {
	_ = d.front.Load().Stats()
	_ = d.upstreams.Status()
	return d.store.Load() != nil
}

// keepStatus keeps the text that 'systemctl status' shows.
func (d *daemon) keepStatus(ctx context.Context) error {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if text := d.summary(); text != last && !d.front.Load().Draining() {
			d.notifier.Status(text)
			last = text
		}
	}
}

// summary says in a line how the process is doing; what is wrong comes first.
func (d *daemon) summary() string {
	counts := d.store.Load().Counts()
	text := fmt.Sprintf("%d rules, %d redirects, %d connections", counts.Rules, counts.Redirects, d.front.Load().Stats().Open)
	if problems := len(d.store.Snapshot().Problems); problems > 0 {
		text = fmt.Sprintf("%d rows are not served as written (cutover status); %s", problems, text)
	}
	certificates := d.desk.summarise(context.Background())
	if ending := len(certificates.ending()); ending > 0 {
		text = fmt.Sprintf("%d certificates end within 7 days (cutover certs ls); %s", ending, text)
	}
	if problem := d.store.Health().Problem; problem != "" {
		text = problem + "; " + text
	}
	return text
}

// parts is what 'cutover status' shows beside the rules.
func (d *daemon) parts() admin.Parts {
	stats, totals, pages := d.front.Load().Stats(), d.metrics.Totals(), d.pages.Status()
	return admin.Parts{
		StartedAt: d.started,
		Sockets:   d.sockets.Describe(),
		Connections: &admin.ConnectionStatus{
			Open: stats.Open, Active: stats.Active, Idle: stats.Idle, Handshaking: d.handshakes(), Requests: stats.Requests, Tunnels: stats.Tunnels, Streams: stats.Streams,
		},
		Certificates: d.certificateParts(),
		Upstreams:    d.upstreamParts(),
		Older:        d.older(),
		Totals:       &totals,
		Memory:       d.memoryStatus(),
		ErrorPages:   &pages,
	}
}

// older lists the workers that were replaced and have not ended yet.
func (d *daemon) older() []admin.GenerationStatus {
	var list []admin.GenerationStatus
	for _, other := range takeover.Workers(context.Background(), d.config.RuntimeDir) {
		if other.State != takeover.Paused && other.State != takeover.Draining || other.PID == os.Getpid() {
			continue
		}
		holds := other.Holds
		list = append(list, admin.GenerationStatus{
			PID: other.PID, Version: other.Version, StartedAt: other.Started, State: string(other.State), Connections: holds.Connections,
			Requests: holds.Requests, Tunnels: holds.Tunnels, Streams: holds.Streams, Late: holds.Late, Ends: other.Ends,
		})
	}
	return list
}

func (d *daemon) certificateParts() *admin.CertificateStatus {
	status, summary := d.certificates.Status(), d.desk.summarise(context.Background())
	return &admin.CertificateStatus{
		Issuer: status.Issuer, Problem: status.Problem, Stored: status.Stored, InFlight: status.InFlight, BackedOff: backedOff(status.BackedOff),
		Late: status.Late, Outage: status.Outage, Budget: budgetParts(status.Budget),
		States: summary.states, Ending: summary.ending(), Files: summary.broken,
	}
}

func backedOff(attempts []tlsbridge.Attempt) []admin.BackedOffStatus {
	list := make([]admin.BackedOffStatus, len(attempts))
	for i, a := range attempts {
		list[i] = admin.BackedOffStatus{Name: a.Name, Failures: a.Failures, Next: a.Next, Error: a.Error}
	}
	return list
}

// upstreamParts shows every upstream that the rules have, with counts where it was used.
func (d *daemon) upstreamParts() []admin.UpstreamStatus {
	used := d.upstreams.Status()
	list := make([]admin.UpstreamStatus, len(used))
	for i, u := range used {
		list[i] = admin.UpstreamStatus{Name: u.Name, Targets: make([]admin.TargetStatus, len(u.Targets))}
		for j, t := range u.Targets {
			list[i].Targets[j] = admin.TargetStatus{
				URL: t.URL, State: t.State, Weight: t.Weight, InFlight: t.InFlight, Requests: t.Requests, Failures: t.Failures, LastError: t.LastError,
				FailingSince: t.FailingSince, FailingBecause: t.FailingBecause, LatencyMS: float64(t.Latency.Microseconds()) / 1000, TLSProblem: t.TLSProblem,
			}
		}
	}
	return list
}
