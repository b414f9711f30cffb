package tlsbridge

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

const (
	lateEvery   = time.Minute     // between looks at what is late
	lateAtOnce  = 10              // keeps a CA that does not answer from holding up all names behind one
	renewalTime = 5 * time.Minute // for one
)

var (
	errNotStored = errors.New("its certificate is not stored any more: the next visitor orders another")
	errNotActive = errors.New("another process renews")
)

// late are the names whose renewal is due and did not succeed, and when each may be tried again. certmagic finds what is due
// and tries it, and after failures waits up to six hours: right for a name that fails, and wrong for a CA that was down. What
// certmagic does not find, tend adds.
type late struct {
	mu    sync.Mutex
	names map[string]time.Time
	plain map[string]bool // the CA may have refused what an order said that it replaces
}

// found adds a name that is to be tried at once, if it is not there yet.
func (l *late) found(name string) {
	l.mu.Lock()
	_, known := l.names[name]
	l.mu.Unlock()
	if !known {
		l.add(name, time.Now())
	}
}

// makePlain has the next order for a name not say what it replaces; false if the last one did not.
func (l *late) makePlain(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.plain[name] {
		return false
	}
	if l.plain == nil {
		l.plain = map[string]bool{}
	}
	l.plain[name] = true
	return true
}

func (l *late) isPlain(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.plain[name]
}

func (l *late) add(name string, notBefore time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[string]time.Time{}
	}
	l.names[name] = notBefore
}

func (l *late) remove(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.names, name)
	delete(l.plain, name)
}

// due lists what may be tried, in no order, so that one name that fails does not stand before all others.
func (l *late) due(now time.Time) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for name, notBefore := range l.names {
		if !now.Before(notBefore) {
			names = append(names, name)
		}
	}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

// waits reports whether a name must not be tried yet.
func (l *late) waits(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.names[name])
}

func (l *late) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.names)
}

// stopKey is for a renewal that is to be tried once: its value ends it with the reason.
type stopKey struct{}

// renewalEvent is told by certmagic how renewals go. The renewing configuration has bare issuers, not a gate: certmagic tells
// the CA which certificate an order replaces only where the issuer is of its own type.
func (c *Certificates) renewalEvent(ctx context.Context, kind int, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	renewal, _ := data["renewal"].(bool)
	switch event {
	case "cert_obtaining":
		if err := c.mayRenew(ctx, name, renewal); err != nil {
			return certmagic.ErrNoRetry{Err: err}
		}
	case "cert_obtained":
		c.renewed(withKind(ctx, kind), name)
	case "cert_failed":
		cause, _ := data["error"].(error)
		c.notRenewed(withKind(ctx, kind), name, cause)
	}
	return nil
}

// mayRenew says why a name must not be renewed now.
func (c *Certificates) mayRenew(ctx context.Context, name string, renewal bool) error {
	if c.options.Issuer == IssuerOff {
		return ErrOff
	}
	if !renewal {
		c.late.remove(name)
		return errNotStored
	}
	if !c.allowed(name) {
		c.late.remove(name)
		return errNotAllowed
	}
	if wrong := c.profile.Load(); wrong != nil {
		return wrong
	}
	if !c.options.Active() {
		c.late.add(name, time.Now())
		return errNotActive
	}
	if last, waits := c.back.meets(ctx, name); waits {
		c.late.add(name, last.Next)
		return errors.New("waiting after a failure: " + last.Error)
	}
	if err := c.enterRenewal(ctx, name); err != nil {
		return err
	}
	c.back.begin(ctx, name)
	return nil
}

// enterRenewal is what stands before an order that renews: budgets are for new names alone. An imported certificate of several
// names is the exception, since to a CA each of them is new when it comes alone: it is counted, and goes ahead of new names, for
// it would end. Only the CA's own word holds it back.
func (c *Certificates) enterRenewal(ctx context.Context, name string) error {
	if err := c.outage.enter(); err != nil {
		c.late.add(name, time.Now())
		return err
	}
	if !c.splits(name) {
		return nil
	}
	err := c.budget.count(ctx, name)
	var full *budgetError
	if errors.As(err, &full) {
		c.late.add(name, full.hold.Until)
	}
	return err
}

// splits reports whether a name's certificate was imported and holds for other names, too.
func (c *Certificates) splits(name string) bool {
	file := filepath.Join(c.options.Dir, certmagic.StorageKeys.SiteCert(c.issuerKeys[0], name))
	leaf, err := readLeaf(file)
	if err != nil || slices.Equal(hostNames(leaf), []string{name}) {
		return false
	}
	m, ok := readMark(strings.TrimSuffix(file, ".crt"))
	return ok && m.Serial == leaf.SerialNumber.Text(16)
}

func (c *Certificates) renewed(ctx context.Context, name string) {
	c.outage.answered()
	c.late.remove(name)
	c.kinds.succeed(name, kindOf(ctx))
	c.kept.add(name)
	c.succeeded(ctx, name)
}

func (c *Certificates) notRenewed(ctx context.Context, name string, cause error) {
	if stop, ok := ctx.Value(stopKey{}).(context.CancelCauseFunc); ok {
		defer stop(cause)
	}
	if cause == nil || errors.Is(ctx.Err(), context.Canceled) {
		return // we end, which is nobody's failure
	}
	c.event("failed", name, cause)
	if problem, ok := rateLimit(cause); ok {
		c.outage.answered()
		c.back.withdraw(ctx, name)
		c.late.add(name, c.budget.limited(ctx, name, problem))
		return
	}
	if isOutage(cause) {
		c.outage.failed(name, cause)
		c.late.add(name, c.back.failedByCA(ctx, name, cause).Next)
		return
	}
	c.outage.answered()
	if refusesReplacement(cause) && c.late.makePlain(name) {
		c.back.withdraw(ctx, name)
		c.late.add(name, time.Now())
		return
	}
	c.kinds.fail(name, kindOf(ctx))
	c.late.add(name, c.back.failed(ctx, name, cause).Next)
}

// refusesReplacement reports whether the CA may have refused an order for what it replaces, such as a certificate of another
// account. Nothing was spent on such an order.
func refusesReplacement(err error) bool {
	var problem acme.Problem
	return errors.As(err, &problem) && strings.Contains(err.Error(), "creating new order")
}

// renewLate looks for what certmagic does not renew, and tries all that is late, until ctx ends: soon after the CA works again,
// all of it is done.
func (c *Certificates) renewLate(ctx context.Context) {
	look := time.NewTicker(cmp.Or(max(c.options.RenewEvery, 0), certmagic.DefaultRenewCheckInterval))
	defer look.Stop()
	for ctx.Err() == nil {
		again := time.NewTimer(jittered(lateEvery))
		select {
		case <-look.C:
			c.tend(ctx)
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
		c.renewDue(ctx)
	}
}

func (c *Certificates) renewDue(ctx context.Context) {
	names := c.late.due(time.Now())
	if len(names) == 0 || c.outage.waits() != nil || !c.options.Active() {
		return
	}
	c.renewOne(ctx, names[0]) // alone: should the CA still be down, the others need not try
	var running sync.WaitGroup
	turn := make(chan struct{}, lateAtOnce)
	for _, name := range names[1:] {
		if ctx.Err() != nil || c.outage.waits() != nil {
			break
		}
		turn <- struct{}{}
		running.Go(func() {
			defer func() { <-turn }()
			c.renewOne(ctx, name)
		})
	}
	running.Wait()
}

func (c *Certificates) renewOne(ctx context.Context, name string) {
	if err := c.renew(ctx, name); err != nil {
		c.options.Log.Debug("a late renewal did not succeed", slog.String("name", name), slog.Any("error", err))
	}
}

// renewSoon renews in the background, unless the name must wait or is being renewed.
func (c *Certificates) renewSoon(name string) {
	if c.mayTry(name) != nil || c.late.waits(name) {
		return
	}
	ctx, begun := c.begin(name)
	if !begun {
		return
	}
	go func() {
		defer c.done(name)
		c.renewOne(ctx, name)
	}()
}

// renew tries a renewal once, and serves the new certificate at once. certmagic looks again whether it is due while nobody else
// renews it, and paces orders: ten in ten seconds.
func (c *Certificates) renew(ctx context.Context, name string) error {
	limited, cancel := context.WithTimeout(ctx, renewalTime)
	defer cancel()
	once, stop := context.WithCancelCause(limited)
	defer stop(nil)
	err := c.renewer(name).RenewCertAsync(context.WithValue(once, stopKey{}, stop), name, false)
	if cause := context.Cause(once); err != nil && limited.Err() == nil && cause != nil {
		return cause // certmagic says only that it was ended
	}
	if err != nil {
		return err
	}
	c.late.remove(name)
	c.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name}})
	c.warm(ctx, name)
	return nil
}

// renewer returns the configuration that renews a name's certificate.
func (c *Certificates) renewer(name string) *certmagic.Config {
	with := c.renewers[c.kindFor(name)]
	config := with.long
	leaf, err := readLeaf(filepath.Join(c.options.Dir, certmagic.StorageKeys.SiteCert(c.issuerKeys[0], name)))
	if err == nil && leaf.NotAfter.Sub(leaf.NotBefore) < shortLife {
		config = with.short
	}
	if !c.late.isPlain(name) {
		return config
	}
	plain := *config
	plain.DisableARI = true
	return &plain
}
