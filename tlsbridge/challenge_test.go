package tlsbridge

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// leaveChallenge writes what certmagic writes before a CA is told to look, so long ago.
func leaveChallenge(t *testing.T, c *Certificates, kind string, ago time.Duration) {
	t.Helper()
	file := filepath.Join(c.options.Dir, "acme", c.issuerKeys[0], "challenge_tokens", "shop.test.json")
	text, err := json.Marshal(acme.Challenge{Type: kind, Token: "token", Identifier: acme.Identifier{Type: "dns", Value: "shop.test"}})
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	must(t, os.WriteFile(file, text, 0o600))
	written := time.Now().Add(-ago)
	must(t, os.Chtimes(file, written, written))
}

func TestOnlyAChallengeThatIsUnderWayIsHeld(t *testing.T) {
	for name, c := range map[string]struct {
		kind string
		ago  time.Duration
		held bool
	}{
		"under way":                         {acme.ChallengeTypeTLSALPN01, time.Second, true},
		"left by a kill":                    {acme.ChallengeTypeTLSALPN01, time.Hour, false},
		"one that is answered over HTTP":    {acme.ChallengeTypeHTTP01, time.Second, false},
		"one that is answered over the DNS": {acme.ChallengeTypeDNS01, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			keeper := openKeeper(t, func(o *CertificateOptions) { o.Issuer = IssuerACME })
			if keeper.HoldsTLSChallenge("shop.test") {
				t.Fatal("one is held though there was none")
			}
			leaveChallenge(t, keeper, c.kind, c.ago)
			if got := keeper.HoldsTLSChallenge("shop.test"); got != c.held {
				t.Errorf("held: %v, want %v", got, c.held)
			}
		})
	}
}

func TestATokenOfSomebodyElsesIsPassedOnBesideAChallengeThatAKillLeft(t *testing.T) {
	keeper := openKeeper(t, func(o *CertificateOptions) { o.Issuer, o.Allowed = IssuerACME, func(string) bool { return true } })
	leaveChallenge(t, keeper, acme.ChallengeTypeHTTP01, time.Second)
	passed := false
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed = true })
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.test/.well-known/acme-challenge/of-v1", http.NoBody)
	keeper.HTTPChallenge(next).ServeHTTP(httptest.NewRecorder(), request)
	if !passed {
		t.Error("it was not passed on")
	}
}
