package tlsbridge

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

const cleanEvery = 24 * time.Hour

// Run renews, works the queue off, rotates ticket keys, cleans the storage and looks at the operator's own files until ctx ends;
// then it waits for what is being issued, gives back certmagic's locks and stops the cache.
func (c *Certificates) Run(ctx context.Context) error {
	c.mu.Lock()
	c.base = func() context.Context { return ctx }
	c.mu.Unlock()
	var loops sync.WaitGroup
	for _, run := range []func(context.Context){c.renewLate, c.workOff, c.files.run, c.watchStorage, c.checkProfile} {
		loops.Go(func() { run(ctx) })
	}
	c.maintain(ctx)
	loops.Wait()
	c.stop()
	return nil
}

// maintain rotates ticket keys and cleans the storage until ctx ends.
func (c *Certificates) maintain(ctx context.Context) {
	rotate := time.NewTicker(ticketLook)
	defer rotate.Stop()
	clean := time.NewTicker(cleanEvery)
	defer clean.Stop()
	for {
		select {
		case <-rotate.C:
			c.tickets.refresh(c.tls, time.Now())
		case <-clean.C:
			c.clean(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (c *Certificates) stop() {
	c.mu.Lock()
	c.base = nil // nothing new is prepared
	c.mu.Unlock()
	c.work.Wait()
	c.cache.Stop()
	certmagic.CleanUpOwnLocks(context.Background(), c.background.Logger)
}

func (c *Certificates) clean(ctx context.Context) {
	defer c.findKept()
	err := certmagic.CleanStorage(ctx, c.storage, certmagic.CleanStorageOptions{
		Logger: c.background.Logger, ExpiredCerts: true, ExpiredCertGracePeriod: 30 * 24 * time.Hour, OCSPStaples: true, Interval: cleanEvery,
	})
	if err != nil {
		c.options.Log.Warn("the certificate storage could not be cleaned", slog.Any("error", err))
	}
}

// Close stops what NewCertificates began, where Run was never called.
func (c *Certificates) Close() { c.cache.Stop() }

// Warm loads the stored certificates of allowed names, so that the first visitors after a start do not wait for the disk,
// and sees to it that they are renewed. Names without one are left for their first visitor.
func (c *Certificates) Warm(ctx context.Context) {
	for _, name := range c.storedNames(ctx) {
		if (c.options.Allowed(name) || strings.HasPrefix(name, "*.")) && ctx.Err() == nil {
			c.warm(ctx, name)
		}
	}
}

func (c *Certificates) warm(ctx context.Context, name string) {
	if _, err := c.background.CacheManagedCertificate(ctx, name); err != nil {
		c.options.Log.Warn("a stored certificate cannot be loaded", slog.String("name", name), slog.Any("error", err))
	}
}

// storedNames lists the names of all stored certificates: there may be many more names that are allowed.
func (c *Certificates) storedNames(ctx context.Context) []string {
	var names []string
	for _, key := range c.issuerKeys {
		folders, err := c.storage.List(ctx, certmagic.StorageKeys.CertsPrefix(key), false)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.options.Log.Warn("stored certificates cannot be listed", slog.Any("error", err))
		}
		for _, folder := range folders {
			names = append(names, nameOfFile(path.Base(folder)))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Ready reports whether a certificate for name can be served: it is in memory, stored, or in files of the operator's.
func (c *Certificates) Ready(name string) bool {
	if certificate, _ := c.fromFiles(name); certificate != nil {
		return true
	}
	return len(c.cache.AllMatchingCertificates(name)) > 0 || c.kept.covers(name) || c.filed(name)
}

// filed reports whether a certificate is stored under a name itself.
func (c *Certificates) filed(name string) bool {
	for _, key := range c.issuerKeys {
		if c.storage.Exists(context.Background(), certmagic.StorageKeys.SiteCert(key, name)) {
			return true
		}
	}
	return false
}

// Prepare asks for a name's certificate in the background for a client, if it is allowed, has none and need not wait, and the
// client has not asked for too many. It returns at once; asking again meanwhile does nothing.
func (c *Certificates) Prepare(name string, client netip.Addr) {
	if c.options.Allowed(name) && !c.Ready(name) && c.mayAsk(client, name) == nil {
		c.prepare(name)
	}
}

// prepare gets a name's certificate in the background; whether it may be ordered was asked before.
func (c *Certificates) prepare(name string) {
	ctx, begun := c.begin(name)
	if !begun {
		return
	}
	go func() {
		defer c.done(name)
		_ = c.obtain(ctx, name) // is in the log, and in the back-off
	}()
}

// obtain gets a name's certificate without a visitor who waits. The name holds a slot.
func (c *Certificates) obtain(ctx context.Context, name string) error {
	if err := c.front.ObtainCertAsync(ctx, name); err != nil {
		c.options.Log.Debug("a certificate was not prepared", slog.String("name", name), slog.Any("error", err))
		return err
	}
	c.warm(ctx, name)
	return nil
}

// begin notes that a name is being prepared; false if it is already, if too many are, or if nothing runs.
func (c *Certificates) begin(name string) (context.Context, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.base == nil || c.busy[name] {
		return nil, false
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return nil, false
	}
	c.busy[name] = true
	c.work.Add(1)
	return c.base(), true
}

func (c *Certificates) done(name string) {
	c.mu.Lock()
	delete(c.busy, name)
	c.mu.Unlock()
	<-c.slots
	c.work.Done()
}

// Retry forgets that a name failed, so that the next request may try at once; a renewal that is due, or a name in the queue, is
// tried within a minute.
func (c *Certificates) Retry(ctx context.Context, name string) error {
	err := c.back.forget(ctx, name)
	if c.kept.has(name) {
		c.late.add(name, time.Now())
	}
	c.lookAtQueue()
	return err
}

// CertificateStatus says how the certificates are.
type CertificateStatus struct {
	Issuer    string
	Problem   string // why nothing at all is issued
	Stored    int    // for names of any kind
	InFlight  int
	BackedOff []Attempt // names that wait after a failure
	Late      int       // renewals that are due and did not succeed yet
	Outage    string    // why nothing is ordered since the CA does not work; empty if it does
	Budget    BudgetStatus
}

// Status says how the certificates are.
func (c *Certificates) Status() CertificateStatus {
	status := CertificateStatus{
		Issuer: c.options.Issuer, Stored: c.kept.count(), InFlight: len(c.slots), BackedOff: c.back.waiting(),
		Late: c.late.count(), Budget: c.budget.status(),
	}
	if err := c.outage.waits(); err != nil {
		status.Outage = err.Error()
	}
	if wrong := c.profile.Load(); wrong != nil {
		status.Problem = wrong.Error()
	}
	return status
}
