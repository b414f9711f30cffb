package tlsbridge

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

// fakeCA issues at once, unless it is told to fail.
type fakeCA struct {
	root *localCA
	life time.Duration // of certificates

	mu     sync.Mutex
	takes  time.Duration           // an order
	fails  func(name string) error // may be nil
	orders []order
}

// order is what the CA was asked for.
type order struct {
	name string
	at   time.Time
}

func (f *fakeCA) IssuerKey() string { return "fake" }

func (f *fakeCA) failWith(fails func(name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = fails
}

// ordered lists the orders since a time.
func (f *fakeCA) ordered(since time.Time) []order {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.orders), func(o order) bool { return o.at.Before(since) })
}

// pause lets orders take their time, of which they notice when they are broken off.
func (f *fakeCA) pause(ctx context.Context) error {
	f.mu.Lock()
	takes := f.takes
	f.mu.Unlock()
	select {
	case <-time.After(takes):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeCA) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	f.mu.Lock()
	f.orders = append(f.orders, order{nameOf(csr), time.Now()})
	fails := f.fails
	f.mu.Unlock()
	if err := f.pause(ctx); err != nil {
		return nil, err
	}
	if fails != nil {
		if err := fails(nameOf(csr)); err != nil {
			return nil, err
		}
	}
	template := &x509.Certificate{SerialNumber: serial(), DNSNames: csr.DNSNames, NotBefore: time.Now(), NotAfter: time.Now().Add(f.life)}
	der, err := x509.CreateCertificate(rand.Reader, template, f.root.root, csr.PublicKey, f.root.key)
	return &certmagic.IssuedCertificate{Certificate: encodeCertificate(der)}, err
}

// lockfileLook is a little more than certmagic lets pass before it sees that a lock was given back.
const lockfileLook = 6 * time.Second

var errDown = errors.New("dial tcp 192.0.2.1:443: connect: connection refused")

func down(string) error { return errDown }

// rig is Certificates with a CA that is not real, and with stores that outlive them.
type rig struct {
	t       *testing.T
	ca      *fakeCA
	options CertificateOptions
	events  map[string]int

	mu           sync.Mutex
	certificates *Certificates
	stop         func()
}

func newRig(t *testing.T, change func(*CertificateOptions)) *rig {
	t.Helper()
	root, err := openLocalCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, ca: &fakeCA{root: root, life: 90 * 24 * time.Hour}, events: map[string]int{}}
	r.options = CertificateOptions{
		Dir: t.TempDir(), Issuer: IssuerLocal, Allowed: func(string) bool { return true },
		Attempts: &keptAttempts{list: map[string]Attempt{}}, Budget: newMemoryBudget(), Queue: &keptQueue{names: map[string]queued{}},
		OnEvent: r.count,
	}
	if change != nil {
		change(&r.options)
	}
	r.start()
	return r
}

func (r *rig) count(event, _ string, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events[event]++
}

func (r *rig) eventCount(event string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[event]
}

// start runs new Certificates on what is kept.
func (r *rig) start() {
	r.t.Helper()
	c, err := NewCertificates(r.options)
	if err != nil {
		r.t.Fatal(err)
	}
	c.useIssuer(gatedIssuer{r.ca, &gate{c}}, r.ca)
	c.budget = newBudget(c.options, "fake")
	c.findKept()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	c.Warm(ctx)
	go func() { ended <- c.Run(ctx) }()
	r.certificates = c
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
		time.Sleep(lockfileLook) // certmagic's, for locks that are given back; the time is not real
		synctest.Wait()
	}
}

func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

// from is a connection that comes from an address.
type from struct {
	net.Conn
	address net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.address }

// shake does a handshake from a client, and returns the certificate.
func (r *rig) shake(name, client string) (*x509.Certificate, error) {
	near, far := net.Pipe()
	server := tls.Server(from{far, &net.TCPAddr{IP: net.ParseIP(client), Port: 1}}, r.certificates.TLSConfig())
	served := make(chan error, 1)
	go func() { served <- server.HandshakeContext(context.Background()) }()
	visitor := tls.Client(near, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	err := visitor.HandshakeContext(context.Background())
	_ = near.Close()
	<-served
	_ = far.Close()
	if err != nil {
		return nil, err
	}
	return visitor.ConnectionState().PeerCertificates[0], nil
}

func (r *rig) mustShake(name string) *x509.Certificate {
	r.t.Helper()
	certificate, err := r.shake(name, "192.0.2.1")
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	return certificate
}

// keptAttempts is an AttemptStore in memory.
type keptAttempts struct {
	mu   sync.Mutex
	list map[string]Attempt
}

func (k *keptAttempts) Attempts(context.Context) ([]Attempt, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Values(k.list)), nil
}

func (k *keptAttempts) Attempt(_ context.Context, name string) (Attempt, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	a, known := k.list[name]
	return a, known, nil
}

func (k *keptAttempts) SaveAttempt(_ context.Context, a Attempt) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list[a.Name] = a
	return nil
}

func (k *keptAttempts) DeleteAttempt(_ context.Context, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.list, name)
	return nil
}

// keptQueue is a Queue in memory.
type keptQueue struct {
	mu    sync.Mutex
	names map[string]queued
}

type queued struct {
	batch    int64
	finished bool
	failure  string
}

func (k *keptQueue) Add(_ context.Context, batch int64, names []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		k.names[name] = queued{batch: batch}
	}
	return nil
}

func (k *keptQueue) Pending(_ context.Context, batch int64) (names []string, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, q := range k.names {
		if !q.finished && (batch == 0 || q.batch == batch) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func (k *keptQueue) Queued(_ context.Context, name string) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	q, there := k.names[name]
	return there && !q.finished, nil
}

func (k *keptQueue) Remove(_ context.Context, names []string) (missing []string, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		if q, there := k.names[name]; !there || q.finished {
			missing = append(missing, name)
			continue
		}
		delete(k.names, name)
	}
	return missing, nil
}

func (k *keptQueue) RemoveAll(context.Context) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := len(k.names)
	maps.DeleteFunc(k.names, func(_ string, q queued) bool { return !q.finished })
	return before - len(k.names), nil
}

func (k *keptQueue) Finish(_ context.Context, name, failure string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, there := k.names[name]; !there {
		return nil
	}
	k.names[name] = queued{k.names[name].batch, true, failure}
	return nil
}

func (k *keptQueue) Finished(_ context.Context, batch int64) (done, failed int, _ error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, q := range k.names {
		switch {
		case !q.finished || batch != 0 && q.batch != batch:
		case q.failure == "":
			done++
		default:
			failed++
		}
	}
	return done, failed, nil
}
