package tlsbridge

import (
	"sync"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// challengeKinds choose the kind of challenge by which an attempt proves a name: one alone, since certmagic makes an order for each
// that it may try. The next attempt for a name that failed takes the next kind, and other names begin with the kind that worked.
type challengeKinds struct {
	many int

	mu     sync.Mutex
	best   int
	failed map[string]int // attempts in a row, by name; also those that the back-off was told to forget
}

// maxFailing bounds the memory of names that fail. One that is forgotten begins anew.
const maxFailing = 10_000

// of returns the kind for a name's next attempt. before is how often it failed in an earlier process.
func (k *challengeKinds) of(name string, before int) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.at(k.count(name, before))
}

func (k *challengeKinds) at(failures int) int {
	if k.many < 2 {
		return 0
	}
	return (k.best + failures) % k.many
}

func (k *challengeKinds) count(name string, before int) int {
	if n, known := k.failed[name]; known {
		return n
	}
	return before
}

// fail notes that an attempt for a name failed.
func (k *challengeKinds) fail(name string, before int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.count(name, before)
	if k.failed == nil || len(k.failed) >= maxFailing {
		k.failed = map[string]int{}
	}
	k.failed[name] = n + 1
}

// succeed notes that a name was proved. The kind of one that failed before has worked where another did not.
func (k *challengeKinds) succeed(name string, before int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.best = k.at(k.count(name, before))
	delete(k.failed, name)
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
func (c *Certificates) newRenewer(logger *zap.Logger) renewer {
	config := certmagic.Config{Storage: c.storage, Logger: logger, DisableStorageCheck: true, OnEvent: c.renewalEvent}
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

// refused notes that the CA did not take a name's proof, or anything else of an attempt.
func (c *Certificates) refused(name string) {
	last, _ := c.back.last(name)
	c.kinds.fail(name, last.Failures)
}
