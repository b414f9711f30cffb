package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"cutover/proxy"
	"cutover/proxy/admin"
	"cutover/proxy/discovery"
	"cutover/proxy/discovery/digitalocean"
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
	prover       tlsbridge.DNSProver // nil if names are not proved by the DNS
	desk         *certificateDesk
	handshaker   *tlsbridge.Handshaker // nil without an https socket
	raw          *tlsbridge.Passthrough
	balancers    *tlsbridge.ProxyProtocol // nil if none is trusted
	finder       *discovery.Finder
	account      *digitalocean.Account // nil without a token
	upstreams    *upstream.Set
	own          *ownAddresses
	handler      *proxy.Handler
	access       *proxy.AccessLog
	pages        *proxy.Pages
	front        atomic.Pointer[frontend.Server] // which gets new connections
	metrics      *metrics.Metrics
	admin        *admin.Server
	limits       LimitsConfig // derived
	limiter      *tlsbridge.Limiter
	refusals     *refusals
	memory       admin.MemoryStatus
	// adminListeners are the optional ones on TCP.
	adminListeners []*adminListener
	acceptors      []*tlsbridge.Acceptor
}

// openDaemon loads everything that serving needs: rules, keys, certificates. Nothing is served yet. With follow another
// process is the writer of the rules. store.ErrNeedsWriter says that this one has to be, before it can load them.
func openDaemon(ctx context.Context, c Config, follow bool, sockets systemd.Sockets, notifier *systemd.Notifier, log *slog.Logger, accessLines io.Writer) (*daemon, error) {
	d := &daemon{config: c, log: log, sockets: sockets, notifier: notifier, started: time.Now(), metrics: metrics.New()}
	d.own = newOwnAddresses(sockets, c.RuntimeDir)
	d.openLimits()
	for _, open := range []func(context.Context) error{
		func(ctx context.Context) error { return d.openRules(ctx, follow) }, d.openCertificates,
		func(context.Context) error { return d.openHandler(accessLines) },
		func(context.Context) error { return d.openAdmin() },
	} {
		if err := open(ctx); err != nil {
			return nil, errors.Join(err, d.close())
		}
	}
	d.openPassthrough()
	d.openAcceptors()
	d.addGauges()
	return d, nil
}

func (d *daemon) openRules(ctx context.Context, follow bool) (err error) {
	options := storeOptions(d.config)
	options.Follow = follow
	options.LockPatience = patience // a verb that found no daemon a moment ago holds them for as long as it takes
	options.Log = d.log
	options.RefuseTarget = d.own.refuse
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
	if d.account != nil {
		d.account.Close()
	}
	if d.observed != nil {
		problems = append(problems, d.observed.Close())
	}
	if d.store != nil {
		problems = append(problems, d.store.Close())
	}
	return errors.Join(problems...)
}

// components lists what blocks in Run until its context ends. Frontends, of which a worker may have several in its life, and
// the accept loops are the worker's.
func (d *daemon) components() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"rules":        d.store.Run,
		"certificates": d.certificates.Run,
		"DNS hook":     d.checkHook,
		"retries":      func(ctx context.Context) error { return d.retryEdited(ctx, d.store) },
		"targets":      d.upstreams.Run,
		"discovery":    d.finder.Run,
		"access log":   d.access.Run,
		"error pages":  d.pages.Run,
		"status line":  d.keepStatus,
		"collector":    newCollector(d.memory.Limit).Run,
		"watchdog":     func(ctx context.Context) error { return d.notifier.RunWatchdog(ctx, d.alive) },
	}
}

// handshakes counts the connections that are on their way to the frontend. They go from one stage to the next, and are
// counted in that order, so that none is missed.
func (d *daemon) handshakes() (sum int) {
	for _, s := range d.stages() {
		sum += s.Pending()
	}
	return sum
}

// stage is what a connection goes through before the frontend gets it.
type stage interface {
	Pending() int
	Wait(ctx context.Context) error
}

func (d *daemon) stages() (list []stage) {
	if d.balancers != nil {
		list = append(list, d.balancers)
	}
	if d.handshaker != nil {
		list = append(list, d.handshaker)
	}
	return list
}

// awaitHandshakes waits for connections on their way to the frontend, until ctx ends.
func (d *daemon) awaitHandshakes(ctx context.Context) error {
	for _, s := range d.stages() {
		if err := s.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}
