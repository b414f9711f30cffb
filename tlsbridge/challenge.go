package tlsbridge

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// IsChallenge reports whether a ClientHello is a CA's (RFC 8737 §3): it offers this protocol and no other.
func IsChallenge(protocols []string) bool {
	return len(protocols) == 1 && protocols[0] == acmez.ACMETLS1Protocol
}

// challengeTime is longer than a CA takes to look. What is older was left by a process that was killed.
const challengeTime = 5 * time.Minute

// HoldsTLSChallenge reports whether a CA has just been asked for a certificate for name, and may look for the answer in a TLS
// handshake here: by this process or by another on the same Dir. Else a CA that asks does so for somebody else's.
func (c *Certificates) HoldsTLSChallenge(name string) bool {
	for _, key := range c.issuerKeys {
		// As certmagic files it, see distributedSolver there, which writes it before the CA is told to look.
		file := filepath.Join(c.options.Dir, "acme", certmagic.StorageKeys.Safe(key), "challenge_tokens", certmagic.StorageKeys.Safe(name)+".json")
		if written, err := stampOf(file); err != nil || time.Since(written.modified) > challengeTime {
			continue
		}
		var challenge acme.Challenge
		text, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(text, &challenge) == nil && challenge.Type == acme.ChallengeTypeTLSALPN01 {
			return true
		}
	}
	return false
}
