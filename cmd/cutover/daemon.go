package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"cutover/proxy"
	"cutover/proxy/admin"
	"cutover/proxy/frontend"
	"cutover/proxy/metrics"
	"cutover/proxy/upstream"
	"cutover/rules/store"
	"cutover/rules/store/observed"
	"cutover/systemd"
	"cutover/tlsbridge"
)

// daemon is the whole of 'cutover serve', loaded and ready to take the sockets into service.
type daemon struct {
	config   Config
	log      *slog.Logger
	sockets  systemd.Sockets
	notifier *systemd.Notifier
	started  time.Time

	store        *store.Store
	observed     *observed.DB
	certificates *tlsbridge.Certificates
	handshaker   *tlsbridge.Handshaker // nil without an https socket
	upstreams    *upstream.Set
	handler      *proxy.Handler
	access       *proxy.AccessLog
	frontend     *frontend.Server
	metrics      *metrics.Metrics
	admin        *admin.Server
	acceptors    []*tlsbridge.Acceptor
}

// openDaemon loads everything that serving needs: rules, keys, certificates. Nothing is served yet.
func openDaemon(ctx context.Context, c Config, sockets systemd.Sockets, notifier *systemd.Notifier, log *slog.Logger, accessLines io.Writer) (*daemon, error) {
	d := &daemon{config: c, log: log, sockets: sockets, notifier: notifier, started: time.Now(), metrics: metrics.New()}
	for _, open := range []func(context.Context) error{
		d.openRules, d.openCertificates,
		func(context.Context) error { return d.openHandler(accessLines) },
		func(context.Context) error { return d.openAdmin() },
	} {
		if err := open(ctx); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	d.openAcceptors()
	d.addGauges()
	return d, nil
}

func (d *daemon) openRules(ctx context.Context) (err error) {
	options := storeOptions(d.config)
	options.Log = d.log
	d.store, err = store.Open(ctx, options)
	if err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	d.observed, err = observed.Open(ctx, d.config.StateDir)
	if err != nil {
		return err
	}
	if damaged := d.observed.Damaged(); damaged != nil {
		d.log.Warn("what was observed before is lost", slog.Any("error", damaged))
	}
	return nil
}

// close gives back what openDaemon took; it may be called on a daemon that is half open.
func (d *daemon) close() error {
	var problems []error
	if d.upstreams != nil {
		d.upstreams.Close()
	}
	if d.observed != nil {
		problems = append(problems, d.observed.Close())
	}
	if d.store != nil {
		problems = append(problems, d.store.Close())
	}
	return errors.Join(problems...)
}

// run serves until stop ends, then drains and waits for everything that it started.
func (d *daemon) run(stop context.Context) error {
	// Components outlive the signal: they serve while the drain goes on.
	base, cancel := context.WithCancel(context.WithoutCancel(stop))
	defer cancel()
	group, base := errgroup.WithContext(base)
	d.start(base, group)
	select {
	case <-stop.Done():
	case <-base.Done(): // a component failed
	}
	d.drain()
	cancel()
	return errors.Join(group.Wait(), d.close())
}

// start sets every component going and tells systemd that we are ready.
func (d *daemon) start(ctx context.Context, group *errgroup.Group) {
	for name, run := range d.components() {
		group.Go(func() error {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	d.certificates.Warm(ctx)
	for _, acceptor := range d.acceptors {
		group.Go(func() error { return acceptor.Run(ctx) })
	}
	d.notifier.Ready(d.summary())
	d.log.Info("ready", slog.String("version", version), slog.Int("hosts", d.store.Load().Counts().Hosts), slog.Duration("after", time.Since(d.started)))
}

// components lists what blocks in Run until its context ends. The accept loops come later, when all these run.
func (d *daemon) components() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"rules":        d.store.Run,
		"certificates": d.certificates.Run,
		"access log":   d.access.Run,
		"http":         d.frontend.Run,
		"admin":        d.serveAdmin,
		"status line":  d.keepStatus,
		"watchdog":     func(ctx context.Context) error { return d.notifier.RunWatchdog(ctx, d.alive) },
	}
}

// drain is the lame duck: new connections stay in the sockets' queues, and what is open is finished.
func (d *daemon) drain() {
	d.notifier.Stopping("finishing what is open")
	d.log.Info("stopping", slog.Duration("at most", d.config.DrainTimeout))
	for _, acceptor := range d.acceptors {
		acceptor.Pause()
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.config.DrainTimeout)
	defer cancel()
	if err := d.frontend.Drain(ctx, frontend.Grace{}); err != nil {
		d.log.Warn("connections were cut at the drain deadline", slog.Any("error", err))
	}
	if d.handshaker != nil {
		if err := d.handshaker.Wait(ctx); err != nil {
			d.log.Warn("handshakes were cut at the drain deadline", slog.Int("pending", d.handshaker.Pending()))
		}
	}
	d.log.Info("drained")
}

// handshakes counts the connections that are on their way to the frontend.
func (d *daemon) handshakes() int {
	if d.handshaker == nil {
		return 0
	}
	return d.handshaker.Pending()
}
