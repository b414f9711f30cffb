package tlsbridge

import (
	"context"
	"sync"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// challengeKinds choose the kind of challenge by which an attempt proves a name: one alone, since certmagic makes an order for each
// that it may try. The next attempt for a name that failed takes the next kind, and other names begin with the kind that worked.
type challengeKinds struct {
	many int

	mu   sync.Mutex
	best int
	next map[string]int // by name that failed, also one that the back-off was told to forget
}

// maxFailing bounds the memory of names that fail. One that is forgotten begins anew.
const maxFailing = 10_000

// of returns the kind for a name's next attempt. before is how often it failed, for a name that did not in this process.
func (k *challengeKinds) of(name string, before int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	if next, known := k.next[name]; known {
		return next
	}
	return k.after(k.best, before)
}

// after returns the kind so many steps after another.
func (k *challengeKinds) after(kind, steps int) int {
	if k.many < 2 {
		return 0
	}
	return (kind + steps) % k.many
}

// fail notes by which kind an attempt for a name failed.
func (k *challengeKinds) fail(name string, used int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.next == nil || len(k.next) >= maxFailing {
		k.next = map[string]int{}
	}
	k.next[name] = k.after(used, 1)
}

// succeed notes by which kind a name was proved.
func (k *challengeKinds) succeed(name string, used int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.best = used
	delete(k.next, name)
}

// kindKey is for the kind of challenge of an attempt that is under way: what is chosen for the next one may change meanwhile.
type kindKey struct{}

func withKind(ctx context.Context, kind int) context.Context {
	return context.WithValue(ctx, kindKey{}, kind)
}

// kindOf returns the kind of an attempt: 0, the only one, where none was chosen.
func kindOf(ctx context.Context) int {
	kind, _ := ctx.Value(kindKey{}).(int)
	return kind
}

// oneKindEach returns a template for each kind of challenge that is possible, HTTP-01 first, with that one alone. Where names are
// proved by the DNS, or no port is known, there is one.
func oneKindEach(template certmagic.ACMEIssuer) []certmagic.ACMEIssuer {
	if template.DNS01Solver != nil || template.DisableHTTPChallenge || template.DisableTLSALPNChallenge {
		return []certmagic.ACMEIssuer{template}
	}
	byHTTP, byTLS := template, template
	byHTTP.DisableTLSALPNChallenge, byTLS.DisableHTTPChallenge = true, true
	return []certmagic.ACMEIssuer{byHTTP, byTLS}
}

// renewer renews by one kind of challenge.
type renewer struct {
	long  *certmagic.Config
	short *certmagic.Config // for what has a short life
}

// newRenewer returns one without an issuer. It does not issue on demand: else certmagic would not renew in the background.
func (c *Certificates) newRenewer(logger *zap.Logger, kind int) renewer {
	onEvent := func(ctx context.Context, event string, data map[string]any) error {
		return c.renewalEvent(ctx, kind, event, data)
	}
	config := certmagic.Config{Storage: c.storage, Logger: logger, DisableStorageCheck: true, OnEvent: onEvent}
	long := certmagic.New(c.cache, config)
	config.RenewalWindowRatio = halfLife
	return renewer{long, certmagic.New(c.cache, config)}
}

func (r renewer) use(issuer certmagic.Issuer) {
	r.long.Issuers, r.short.Issuers = []certmagic.Issuer{issuer}, []certmagic.Issuer{issuer}
}

// kindFor returns the kind of challenge for a name's next attempt.
func (c *Certificates) kindFor(name string) int {
	last, _ := c.back.last(name)
	return c.kinds.of(name, last.Failures)
}
