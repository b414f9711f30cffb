package tlsbridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"go.uber.org/zap"
)

// The values of CertificateOptions.Issuer.
const (
	IssuerACME  = "acme"
	IssuerLocal = "local" // a CA of our own, for development
	IssuerOff   = "off"   // stored certificates only
)

// CertificateOptions says where certificates come from, and who may have one.
type CertificateOptions struct {
	Dir           string         // of certificates, accounts and keys
	Issuer        string         // IssuerACME, IssuerLocal or IssuerOff; empty means IssuerACME
	Directory     string         // URL of the ACME directory; empty means Let's Encrypt
	Root          *x509.CertPool // for the CA's own https; nil means the system's
	Email         string         // of the ACME account; may be empty
	AccountKeyPEM string         // of an existing ACME account; empty means one of our own
	Profile       string         // of certificates, one of those that the directory offers; empty leaves it to the CA
	// HTTPPort and TLSPort are the ports of the inherited sockets, where the CA's challenges are answered; 0 switches
	// the challenge off. ListenHost is the sockets' address if they are not on a wildcard. certmagic then finds the
	// ports taken and answered, and opens none.
	HTTPPort, TLSPort int
	ListenHost        string
	// Allowed is the gate: it reports whether a name, in normal form, may have a certificate. It is asked at every
	// handshake, so it must be quick.
	Allowed func(name string) bool
	// AllowedWildcard is the gate for *.parent, which is ordered for those who ask for that very certificate, and renewed, and
	// never ordered at a handshake; nil allows none.
	AllowedWildcard func(name string) bool

	Attempts  AttemptStore // keeps failures, for all processes on Dir; nil keeps them in memory
	Limits    Limits       // of orders for new certificates
	Budget    BudgetStore  // keeps what was ordered, for all processes on Dir; nil keeps it in memory
	Queue     Queue        // of names for Prefetch; nil for none
	Preflight *Preflight   // nil orders without a look at the DNS, and so does whoever has one below
	DNS       DNSProver    // proves names to the CA by the DNS, and in no other way; nil for the challenges of the ports
	// Any reports whether an allowed name is one that no row names exactly; nil means that there are none.
	Any func(name string) bool
	// Exempt reports whether a client may ask for any number of names without a certificate, as those who speak for many may;
	// nil means none.
	Exempt func(client netip.Addr) bool
	// Files says which pair of files, BASE.crt and BASE.key in FilesDir, the operator keeps for a name. It is asked at every
	// handshake, before all else; nil means none.
	Files    func(name string) (base string, ok bool)
	FilesDir string
	// Active reports whether it is this process's turn to renew and to work the queue off, where several share Dir for a while;
	// nil means that it always is. Certificates are served, and issued for visitors, in any case.
	Active      func() bool
	MaxInFlight int           // certificates being issued at once; 0 means 20
	RenewEvery  time.Duration // between looks for certificates to renew; 0 means 10 minutes
	Log         *slog.Logger  // nil discards
	// OnEvent is told "issued", "failed", "busy", "budget" (there is no room in it) or "client" (one has asked for too many
	// names) with the name; may be nil.
	OnEvent func(event, name string, err error)
}

// Certificates keeps the certificates: it issues them on demand for names that are allowed, holds names back that
// failed, and renews in the background.
type Certificates struct {
	options    CertificateOptions
	storage    *certmagic.FileStorage
	cache      *certmagic.Cache
	front      *certmagic.Config // for handshakes: issues on demand, fails fast
	background *certmagic.Config // the first of renewers, for what is not renewed
	renewers   []renewer         // one for each kind of challenge
	kinds      challengeKinds
	challenges *certmagic.ACMEIssuer // answers HTTP-01
	issuerKeys []string
	back       *backOff
	tickets    *tickets
	tls        *tls.Config
	slots      chan struct{} // holds one for each name that is being issued
	kept       *names        // that have a stored certificate
	budget     *budget
	orders     *orders
	newNames   *newNames
	outage     *outage
	late       *late
	kick       chan struct{} // there is something new in the queue
	shelf      shelf         // what was read of the stored ones
	files      *pairs
	profile    atomic.Pointer[ProfileError] // why the CA would refuse every order

	work   sync.WaitGroup // Prepare's goroutines
	mu     sync.Mutex
	busy   map[string]bool // names that Prepare is at
	paused BudgetHold      // what the queue waits for
	held   map[string]int  // how many handshakes wait for a name that holds a slot
	// base makes contexts that end with Run; nil while Run does not run.
	base func() context.Context
}

var (
	errBusy       = errors.New("too many certificates are being issued at once")
	errNotAllowed = errors.New("no rule names this host exactly")
)

// NewCertificates reads the keys in Dir, making them if they are missing. Nothing is issued or renewed before Run.
func NewCertificates(o CertificateOptions) (*Certificates, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Issuer == "" {
		o.Issuer = IssuerACME
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 20
	}
	if o.Active == nil {
		o.Active = func() bool { return true }
	}
	ring, err := openTickets(filepath.Join(o.Dir, "tickets.json"), o.Log)
	if err != nil {
		return nil, err
	}
	c := &Certificates{
		options: o, storage: &certmagic.FileStorage{Path: o.Dir}, tickets: ring, slots: make(chan struct{}, o.MaxInFlight),
		back: loadBackOff(context.Background(), o.Attempts, o.Log), busy: map[string]bool{},
		held: map[string]int{}, kept: &names{}, late: &late{}, outage: &outage{log: o.Log}, kick: make(chan struct{}, 1),
		newNames: &newNames{limit: o.Limits.orDefaults().PerClient, exempt: o.Exempt}, files: newPairs(o.FilesDir, o.Log),
	}
	if err := c.configure(); err != nil {
		return nil, err
	}
	c.findKept()
	c.tls = c.newTLSConfig()
	ring.apply(c.tls)
	return c, nil
}

// configure makes the configurations on one cache.
func (c *Certificates) configure() error {
	logger := zap.New(slogCore{c.options.Log})
	c.cache = certmagic.NewCache(certmagic.CacheOptions{
		Capacity: 10_000, RenewCheckInterval: c.options.RenewEvery, Logger: logger,
		GetConfigForCert: c.configFor,
	})
	c.renewers = []renewer{c.newRenewer(logger, 0)}
	c.background = c.renewers[0].long
	c.front = certmagic.New(c.cache, certmagic.Config{
		Storage: c.storage, OnDemand: &certmagic.OnDemandConfig{DecisionFunc: c.decide}, Logger: logger, DisableStorageCheck: true, OnEvent: c.obtained,
		// Handshakes leave renewing to the background, but for a certificate that is about to expire.
		RenewalWindowRatio: lastMoment, DisableARI: true,
	})
	switch c.options.Issuer {
	case IssuerACME:
		c.useACME(logger)
		return nil
	case IssuerLocal:
		return c.useLocal()
	case IssuerOff:
		c.useNone()
		return nil
	}
	c.cache.Stop()
	return fmt.Errorf("there is no issuer %q: it must be acme, local or off", c.options.Issuer)
}

// lastMoment is the part of a certificate's life in which a handshake renews it.
const lastMoment = 0.01

func (c *Certificates) decide(_ context.Context, name string) error {
	if !c.options.Allowed(name) && !c.kept.covers(name) {
		return errNotAllowed
	}
	return nil
}

// useIssuer sets who issues.
func (c *Certificates) useIssuer(front, background certmagic.Issuer) {
	c.front.Issuers = []certmagic.Issuer{front}
	c.renewBy(background)
	c.issuerKeys = []string{background.IssuerKey()}
}

// renewBy sets who issues what replaces a certificate.
func (c *Certificates) renewBy(issuers ...certmagic.Issuer) {
	for _, r := range c.renewers {
		r.long.Issuers, r.short.Issuers = issuers, issuers
	}
}

// acmeTemplate tells certmagic of our ports, which keeps it from opening its own.
func (c *Certificates) acmeTemplate(logger *zap.Logger) certmagic.ACMEIssuer {
	o := c.options
	var byDNS acmez.Solver
	if o.DNS != nil {
		byDNS = o.DNS.solver(logger)
	}
	return certmagic.ACMEIssuer{
		DNS01Solver: byDNS,
		CA:          o.Directory, Email: o.Email, AccountKeyPEM: o.AccountKeyPEM, Agreed: true, TrustedRoots: o.Root,
		ListenHost: o.ListenHost, AltHTTPPort: o.HTTPPort, AltTLSALPNPort: o.TLSPort,
		DisableHTTPChallenge: o.HTTPPort == 0, DisableTLSALPNChallenge: o.TLSPort == 0, Profile: o.Profile, Logger: logger,
	}
}

func (c *Certificates) useACME(logger *zap.Logger) {
	templates := oneKindEach(c.acmeTemplate(logger))
	c.kinds.many = len(templates)
	var fronts []*certmagic.ACMEIssuer
	for i, template := range templates {
		if i > 0 {
			c.renewers = append(c.renewers, c.newRenewer(logger, i))
		}
		c.renewers[i].use(certmagic.NewACMEIssuer(c.renewers[i].long, template))
		template.HTTPProxy = func(r *http.Request) (*url.URL, error) { return c.orders.proxy(r) }
		fronts = append(fronts, certmagic.NewACMEIssuer(c.front, template))
	}
	c.challenges = fronts[0]
	c.front.Issuers = []certmagic.Issuer{acmeIssuer{fronts[0], fronts, &gate{c}}}
	c.issuerKeys = []string{fronts[0].IssuerKey()}
	c.budget = newBudget(c.options, fronts[0].IssuerKey())
	c.orders = newOrders(fronts[0].CA, c.options.Root, c.budget)
}

func (c *Certificates) useLocal() error {
	ca, err := openLocalCA(filepath.Join(c.options.Dir, "local"))
	if err != nil {
		c.cache.Stop()
		return fmt.Errorf("local CA: %w", err)
	}
	c.useIssuer(gatedIssuer{localIssuer{ca}, &gate{c}}, localIssuer{ca})
	return nil
}

// useNone keeps the issuer that stored certificates are filed under, and lets it issue nothing.
func (c *Certificates) useNone() {
	named := certmagic.NewACMEIssuer(c.front, certmagic.ACMEIssuer{CA: c.options.Directory})
	none := noIssuer{named.IssuerKey()}
	c.front.Issuers = []certmagic.Issuer{none, noIssuer{localIssuerKey}}
	c.renewBy(c.front.Issuers...)
	c.issuerKeys = []string{none.key, localIssuerKey}
}

// TLSConfig returns the configuration of the https sockets: TLS 1.2 with authenticated ciphers alone, and 1.3; curves
// are Go's own choice, X25519MLKEM768 first. It is the same one at each call, and must not be cloned: its ticket keys
// change as time goes by.
func (c *Certificates) TLSConfig() *tls.Config { return c.tls }

func (c *Certificates) newTLSConfig() *tls.Config {
	return &tls.Config{
		GetCertificate:     c.getCertificate,
		GetConfigForClient: HelloArrived,
		NextProtos:         []string{"h2", "http/1.1", acmez.ACMETLS1Protocol},
		MinVersion:         tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// getCertificate is the gate. A certificate that is stored is always served. Without one it returns nothing for a name
// that may have none, or that must wait after a failure or for the budget: the client gets unrecognized_name at once, and
// neither storage nor certmagic is asked.
func (c *Certificates) getCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := normalName(hello.ServerName)
	if strings.HasPrefix(name, "*") {
		return nil, nil // no host has such a name
	}
	if certificate, ok := c.fromFiles(name); certificate != nil {
		return certificate, nil
	} else if ok && !c.kept.covers(name) {
		return nil, nil // nothing is issued for what the operator keeps in files
	}
	allowed := c.options.Allowed(name)
	if certificate := c.asItIs(hello, name, allowed); certificate != nil {
		return certificate, nil
	}
	if c.kept.covers(name) || (allowed && (IsChallenge(hello.SupportedProtos) || c.Ready(name))) {
		defer aside(hello.Context())()
		return c.front.GetCertificate(hello)
	}
	if !allowed {
		return nil, nil
	}
	if err := c.mayAsk(clientOf(hello), name); err != nil {
		return nil, nil
	}
	release, err := c.takeSlot(name)
	if err != nil {
		return nil, err
	}
	defer release()
	defer aside(hello.Context())()
	issuing(hello.Context())
	certificate, err := c.front.GetCertificate(hello)
	if errors.As(err, new(*budgetError)) {
		return nil, nil
	}
	return certificate, err
}

// clientOf returns the address that a handshake comes from.
func clientOf(hello *tls.ClientHelloInfo) netip.Addr {
	if hello.Conn == nil {
		return netip.Addr{}
	}
	return addressOf(hello.Conn.RemoteAddr())
}

// Knows reports whether the gate may open for a name: it has a certificate, or may have one. It is quick.
func (c *Certificates) Knows(serverName string) bool {
	name := normalName(serverName)
	certificate, own := c.fromFiles(name)
	return certificate != nil || c.kept.covers(name) || !own && c.options.Allowed(name)
}

func normalName(serverName string) string {
	return strings.ToLower(strings.TrimSuffix(serverName, "."))
}

// mayAsk says why a client must not have a certificate issued.
func (c *Certificates) mayAsk(client netip.Addr, name string) error {
	if err := c.mayOrder(name); err != nil {
		return err
	}
	if c.budget != nil && !c.newNames.allow(client, name) { // a CA of our own needs no limit
		c.event("client", name, errClient)
		return errClient
	}
	return nil
}

// mayOrder says what a name without a certificate is known to wait for, without touching the disk. It takes nothing from the
// budget: what is ordered meets beginOrder, too.
func (c *Certificates) mayOrder(name string) error {
	if err := c.mayTry(name); err != nil {
		return err
	}
	err := c.budget.holds(name)
	if err != nil {
		c.event("budget", name, err)
	}
	return err
}

// mayTry is mayOrder without the budget, for a name that has a certificate.
func (c *Certificates) mayTry(name string) error {
	if c.options.Issuer == IssuerOff {
		return ErrOff
	}
	if wrong := c.profile.Load(); wrong != nil {
		return wrong
	}
	if last, waits := c.back.holds(name); waits {
		return errors.New("waiting after a failure: " + last.Error)
	}
	return c.outage.waits()
}

// asItIs returns a stored certificate, also one that has ended: nobody waits for a renewal, which is made in the background and
// not once for each visitor, of whom strangers may send many.
func (c *Certificates) asItIs(hello *tls.ClientHelloInfo, name string, allowed bool) *tls.Certificate {
	if !c.kept.covers(name) || IsChallenge(hello.SupportedProtos) {
		return nil
	}
	if len(c.cache.AllMatchingCertificates(name)) == 0 && !c.load(hello.Context(), name) {
		return nil // certmagic, asked for what is not in memory, waits for an order of the name that somebody else has made
	}
	certificate, err := c.background.GetCertificate(hello)
	if err != nil || len(certificate.Certificate) == 0 { // with a full memory certmagic returns neither an error nor one that has ended
		return nil
	}
	if leaf := certificate.Leaf; leaf != nil && allowed {
		c.lookAfter(hello, name, leaf)
	}
	return certificate
}

// lookAfter sees to what is served for a name: one that has ended is renewed now, and a wildcard certificate that is due and cannot
// be renewed is replaced by one of the name's own.
func (c *Certificates) lookAfter(hello *tls.ClientHelloInfo, name string, leaf *x509.Certificate) {
	now, wildcard := time.Now(), wildcardOf(name)
	ended, own := now.After(leaf.NotAfter), slices.Contains(hostNames(leaf), name)
	switch {
	case own && ended && c.kept.has(name):
		c.renewSoon(name)
	case own:
	case c.allowed(wildcard):
		if ended {
			c.renewSoon(wildcard)
		}
	case due(leaf.NotBefore, leaf.NotAfter, now) && c.mayAsk(clientOf(hello), name) == nil:
		c.prepare(name)
	}
}

// load takes the certificate that is stored for a name, or for its wildcard, into memory.
func (c *Certificates) load(ctx context.Context, name string) bool {
	defer aside(ctx)()
	for _, filed := range []string{name, wildcardOf(name)} {
		if _, err := c.background.CacheManagedCertificate(ctx, filed); err == nil {
			return true
		}
	}
	return false
}

// takeSlot lets a handshake wait for a name to be issued. All that wait for one name share a slot, since certmagic
// orders once for them.
func (c *Certificates) takeSlot(name string) (release func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[name] == 0 {
		select {
		case c.slots <- struct{}{}:
		default:
			c.event("busy", name, errBusy)
			return nil, errBusy
		}
	}
	c.held[name]++
	return func() { c.giveSlot(name) }, nil
}

func (c *Certificates) giveSlot(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held[name]--; c.held[name] == 0 {
		delete(c.held, name)
		<-c.slots
	}
}

func (c *Certificates) event(event, name string, err error) {
	if c.options.OnEvent != nil {
		c.options.OnEvent(event, name, err)
	}
}

// HTTPChallenge answers the CA's HTTP-01 requests for names that are allowed, and passes everything else on: an unknown
// token may be the v1 service's own.
func (c *Certificates) HTTPChallenge(next http.Handler) http.Handler {
	if c.challenges == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if certmagic.LooksLikeHTTPChallenge(r) && c.options.Allowed(hostOf(r)) && c.challenges.HandleHTTPChallenge(w, r) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostOf returns the host of a request in lower case, without port.
func hostOf(r *http.Request) string {
	host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
	return strings.TrimSuffix(host, ".")
}
