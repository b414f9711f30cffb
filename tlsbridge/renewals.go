package tlsbridge

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	lateEvery   = time.Minute // between looks at what is late
	lateAtOnce  = 10
	renewalTime = 5 * time.Minute // for one
)

var (
	errNotStored  = errors.New("its certificate is not stored any more: the next visitor orders another")
	errIssuingOff = errors.New("issuing is switched off: acme.issuer is off")
)

// late are the names whose renewal is due and did not succeed, and when each may be tried again. certmagic finds what is due
// and tries it, and after failures waits up to six hours: right for a name that fails, and wrong for a CA that was down.
type late struct {
	mu    sync.Mutex
	names map[string]time.Time
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

func (l *late) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.names)
}

// stopKey is for a renewal that is to be tried once: its value ends it.
type stopKey struct{}

// renewalEvent is told by certmagic how renewals go. The renewing configuration has bare issuers, not a gate: certmagic tells
// the CA which certificate an order replaces only where the issuer is of its own type.
func (c *Certificates) renewalEvent(ctx context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	renewal, _ := data["renewal"].(bool)
	switch event {
	case "cert_obtaining":
		if err := c.mayRenew(name, renewal); err != nil {
			return certmagic.ErrNoRetry{Err: err}
		}
	case "cert_obtained":
		c.renewed(ctx, name)
	case "cert_failed":
		cause, _ := data["error"].(error)
		c.notRenewed(ctx, name, cause)
	}
	return nil
}

// mayRenew says why a name must not be renewed now. Budgets are for new names alone.
func (c *Certificates) mayRenew(name string, renewal bool) error {
	if c.options.Issuer == IssuerOff {
		return errIssuingOff
	}
	if !renewal {
		return errNotStored
	}
	if !c.options.Allowed(name) {
		c.late.remove(name)
		return errNotAllowed
	}
	if last, waits := c.back.holds(name); waits {
		c.late.add(name, last.Next)
		return errors.New("waiting after a failure: " + last.Error)
	}
	if err := c.outage.enter(); err != nil {
		c.late.add(name, time.Now())
		return err
	}
	return nil
}

func (c *Certificates) renewed(ctx context.Context, name string) {
	c.outage.answered()
	c.late.remove(name)
	c.succeeded(ctx, name)
}

func (c *Certificates) notRenewed(ctx context.Context, name string, cause error) {
	if stop, ok := ctx.Value(stopKey{}).(context.CancelFunc); ok {
		defer stop()
	}
	if cause == nil || errors.Is(ctx.Err(), context.Canceled) {
		return // we end, which is nobody's failure
	}
	c.event("failed", name, cause)
	if problem, ok := rateLimit(cause); ok {
		c.outage.answered()
		c.late.add(name, c.budget.limited(ctx, name, problem))
		return
	}
	if isOutage(cause) {
		c.outage.failed(cause)
		c.late.add(name, time.Now())
		return
	}
	c.outage.answered()
	c.late.add(name, c.back.failed(ctx, name, cause).Next)
}

// renewLate tries what is late until ctx ends: soon after the CA works again, all of it is done.
func (c *Certificates) renewLate(ctx context.Context) {
	for ctx.Err() == nil {
		sleep(ctx, jittered(lateEvery))
		c.renewDue(ctx)
	}
}

func (c *Certificates) renewDue(ctx context.Context) {
	names := c.late.due(time.Now())
	if len(names) == 0 || c.outage.waits() != nil {
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

// renewOne tries one renewal once. certmagic looks again whether it is due, and paces orders: ten in ten seconds.
func (c *Certificates) renewOne(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, renewalTime)
	defer cancel()
	if err := c.background.RenewCertAsync(context.WithValue(ctx, stopKey{}, cancel), name, false); err != nil {
		c.options.Log.Debug("a late renewal did not succeed", slog.String("name", name), slog.Any("error", err))
		return
	}
	c.late.remove(name)
	c.warm(ctx, name)
}
