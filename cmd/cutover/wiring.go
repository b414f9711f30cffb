package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"cutover/proxy"
	"cutover/proxy/frontend"
	"cutover/proxy/upstream"
	"cutover/rules"
	"cutover/rules/store/observed"
	"cutover/systemd"
	"cutover/tlsbridge"
)

// openCertificates makes the certificates' keeper, told of the ports that we answer on so that it opens none.
func (d *daemon) openCertificates(context.Context) error {
	options, err := certificateOptions(d.config, d.log)
	if err != nil {
		return err
	}
	d.prover = options.DNS
	options.Allowed = func(name string) bool { return d.store.Load().Allows(name) }
	options.Exempt = d.speaksForMany
	options.AllowedWildcard = func(name string) bool { return d.store.Load().AllowsWildcard(name) }
	options.Any = func(name string) bool { return !strings.HasPrefix(name, "*.") && !d.store.Load().Names(name) }
	options.Files = func(name string) (string, bool) { return certificateFile(d.store.Load(), name) }
	options.Attempts, options.Budget, options.Queue = attempts{d.observed}, budgets{d.observed}, d.observed
	options.Active = d.store.IsWriter // there is one, also when a takeover fails
	options.Log, options.OnEvent = d.log, d.countCertificateEvent
	options.HTTPPort, _ = port(d.sockets[systemd.HTTP])
	options.TLSPort, options.ListenHost = port(d.sockets[systemd.HTTPS])
	if d.certificates, err = tlsbridge.NewCertificates(options); err != nil {
		return err
	}
	d.desk = &certificateDesk{certificates: d.certificates, allowed: options.Allowed, serving: true}
	return nil
}

// certificateOptions returns what the configuration says of certificates.
func certificateOptions(c Config, log *slog.Logger) (options tlsbridge.CertificateOptions, err error) {
	options = tlsbridge.CertificateOptions{
		Dir: filepath.Join(c.StateDir, "certs"), FilesDir: c.CertificateDir,
		Directory: c.ACME.Directory, Email: c.ACME.Email, Issuer: c.ACME.Issuer, Profile: c.ACME.Profile,
		Limits: c.ACME.Limits, MaxInFlight: c.ACME.InFlight, Preflight: preflight(c.ACME),
	}
	if options.DNS, err = dnsProver(c.ACME.DNS, log); err != nil {
		return options, err
	}
	if options.Root, err = rootsFrom(c.ACME.Root); err != nil {
		return options, fmt.Errorf("acme.root: %w", err)
	}
	if options.AccountKeyPEM, err = readOptional(c.ACME.AccountKey); err != nil {
		return options, fmt.Errorf("acme.account_key: %w", err)
	}
	return options, nil
}

// certificateFile returns the pair of files that the rules name for a host.
func certificateFile(view *rules.View, name string) (base string, ok bool) {
	host, ok := view.Host(name)
	if !ok {
		return "", false
	}
	return host.CertificateFile()
}

// port returns the port of the first of some listeners, and its address unless that is a wildcard; 0 for none.
func port(listeners []net.Listener) (number int, host string) {
	for _, listener := range listeners {
		if address, ok := listener.Addr().(*net.TCPAddr); ok {
			if !address.IP.IsUnspecified() {
				host = address.IP.String()
			}
			return address.Port, host
		}
	}
	return 0, ""
}

// rootsFrom reads a PEM file; without one it returns nil, which stands for the system's roots.
func rootsFrom(file string) (*x509.CertPool, error) {
	return addRoots(file, func() (*x509.CertPool, error) { return x509.NewCertPool(), nil })
}

// systemRootsAnd returns the system's roots and those of a PEM file; without one, nil, which stands for the system's.
func systemRootsAnd(file string) (*x509.CertPool, error) { return addRoots(file, x509.SystemCertPool) }

func addRoots(file string, newPool func() (*x509.CertPool, error)) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := newPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, withHint(fmt.Errorf("%s holds no certificate", file), "it must be PEM: -----BEGIN CERTIFICATE-----")
	}
	return pool, nil
}

func readOptional(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	return string(data), err
}

func (d *daemon) openHandler(accessLines io.Writer) error {
	visitors, err := proxy.LoadVisitors(filepath.Join(d.config.StateDir, "visitor.key"))
	if err != nil {
		return fmt.Errorf("visitor key: %w", err)
	}
	roots, err := systemRootsAnd(d.config.UpstreamCA)
	if err != nil {
		return fmt.Errorf("upstream_ca: %w", err)
	}
	d.pages = proxy.OpenPages(d.config.ErrorPages, d.log)
	d.access = proxy.NewAccessLog(accessLines, accessOptions(d.config))
	if err := d.openFinder(); err != nil {
		return err
	}
	d.upstreams = upstream.NewSet(upstream.Options{
		Roots: roots, FilesDir: d.config.CertificateDir, OnFailure: d.metrics.Failure, OnGone: d.metrics.Forget, Log: d.log, Upstreams: d.upstreamRows, Expand: d.finder,
	})
	d.handler = &proxy.Handler{
		Views: d.store, Upstreams: d.upstreams, Visitors: visitors, Trusted: d.config.TrustedProxies,
		CertificateReady: d.certificates.Ready, PrepareCertificate: d.certificates.Prepare,
		Ending: frontend.Ending, Limits: d.proxyLimits(), Pages: d.pages, Access: d.access, Metrics: d.metrics, Log: d.log, Instance: instance(),
	}
	d.front.Store(d.newFrontend())
	return nil
}

// newFrontend returns what serves connections until it is drained, once. Handshakes are on their way to it while it is the one
// of the moment: where another has taken its place it need not wait for them, of which there may always be some.
func (d *daemon) newFrontend() *frontend.Server {
	var front *frontend.Server
	arriving := func() int {
		if d.front.Load() != front {
			return 0
		}
		return d.handshakes()
	}
	options := d.frontendOptions()
	options.Handler, options.Arriving = d.certificates.HTTPChallenge(d.handler), arriving
	front = frontend.New(options)
	return front
}

// sink hands connections to the frontend of the moment.
type sink func() frontend.Sink

func (s sink) ServeConn(c net.Conn) { s().ServeConn(c) }

func accessOptions(c Config) proxy.AccessOptions {
	return proxy.AccessOptions{Off: c.AccessLog == "off", Text: c.LogFormat == "text", Sample: c.AccessSample}
}

// openAcceptors puts an accept loop on every socket: clear text straight to its sink, TLS through the handshake.
func (d *daemon) openAcceptors() {
	for _, listener := range d.sockets[systemd.HTTP] {
		d.addAcceptor(listener, d.limiter.Connections(sink(func() frontend.Sink { return d.front.Load().Plain() }).ServeConn))
	}
	if len(d.sockets[systemd.HTTPS]) == 0 {
		return
	}
	http1 := sink(func() frontend.Sink { return d.front.Load().HTTP1() })
	http2 := sink(func() frontend.Sink { return d.front.Load().HTTP2() })
	d.handshaker = &tlsbridge.Handshaker{
		Config: d.certificates.TLSConfig(),
		Sinks:  map[string]tlsbridge.Sink{"": http1, "http/1.1": http1, "h2": http2},
		Knows:  d.certificates.Knows,
		Route:  d.route, Pass: d.passOn,
		Log: d.log, OnResult: d.countHandshake,
	}
	for _, listener := range d.sockets[systemd.HTTPS] {
		d.addAcceptor(listener, d.limiter.Handshakes(d.handshaker.Handle))
	}
}

func (d *daemon) addAcceptor(listener net.Listener, handle func(net.Conn)) {
	d.acceptors = append(d.acceptors, &tlsbridge.Acceptor{Listener: listener, Handle: d.behindProxies(handle), Log: d.log, OnError: d.countAcceptError})
}

// attempts lets the certificates keep their back-off in observed.db.
type attempts struct{ db *observed.DB }

func (a attempts) Attempts(ctx context.Context) ([]tlsbridge.Attempt, error) {
	rows, err := a.db.Attempts(ctx)
	list := make([]tlsbridge.Attempt, len(rows))
	for i, row := range rows {
		list[i] = tlsbridge.Attempt(row)
	}
	return list, err
}

func (a attempts) Attempt(ctx context.Context, name string) (tlsbridge.Attempt, bool, error) {
	row, known, err := a.db.Attempt(ctx, name)
	return tlsbridge.Attempt(row), known, err
}

func (a attempts) SaveAttempt(ctx context.Context, attempt tlsbridge.Attempt) error {
	return a.db.SaveAttempt(ctx, observed.Attempt(attempt))
}

func (a attempts) DeleteAttempt(ctx context.Context, name string) error {
	return a.db.DeleteAttempt(ctx, name)
}
