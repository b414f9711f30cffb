package tlsbridge

import (
	"context"
	"path"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
)

// IsChallenge reports whether a ClientHello is a CA's (RFC 8737 §3): it offers this protocol and no other.
func IsChallenge(protocols []string) bool {
	return len(protocols) == 1 && protocols[0] == acmez.ACMETLS1Protocol
}

// HoldsChallenge reports whether a CA has been asked for a certificate for name, and may look for the answer here: by this
// process or by another on the same Dir. Else a CA that asks does so for somebody else's.
func (c *Certificates) HoldsChallenge(name string) bool {
	for _, key := range c.issuerKeys {
		// As certmagic files it, see distributedSolver there, which writes it before the CA is told to look.
		file := path.Join("acme", certmagic.StorageKeys.Safe(key), "challenge_tokens", certmagic.StorageKeys.Safe(name)+".json")
		if c.storage.Exists(context.Background(), file) {
			return true
		}
	}
	return false
}
