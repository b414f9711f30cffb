package rules

import (
	"net/http"
	"strings"
)

// challengePath is where a CA asks for the token of an ACME client, in clear text at first (RFC 8555 §8.3).
const challengePath = "/.well-known/acme-challenge/"

// maxToken bounds a token's length. Let's Encrypt's have 43 bytes.
const maxToken = 128

// MatchChallenge decides a request of a CA for a token that is not ours, so that an ACME client of v1 goes on working: it
// goes to v1, whatever rules and redirects say. It reports false for any other request, for a host that View does not know,
// and for one whose upstream ends TLS: that may be v2, with an ACME client of its own. Match decides those.
func (v *View) MatchChallenge(r *Request) (Decision, bool) {
	if !IsChallenge(r) || !v.Knows(r.Host) {
		return Decision{}, false
	}
	if row, _ := v.Host(r.Host); row.TLS == TLSPassthrough {
		return Decision{}, false
	}
	return Decision{Action: Forward, Version: V1, Upstream: v.FirstVersion(r), Reason: ReasonChallenge, Bucket: -1, HTTPS: HTTPSOff}, true
}

// IsChallenge reports whether a request is as a CA makes it that asks for a token: nothing else may pass rules by.
func IsChallenge(r *Request) bool {
	token, ok := strings.CutPrefix(r.Path, challengePath)
	if !ok || token == "" || len(token) > maxToken || r.RawQuery != "" || (r.Method != http.MethodGet && r.Method != http.MethodHead) {
		return false
	}
	return strings.IndexFunc(token, outsideBase64URL) < 0
}

// outsideBase64URL reports whether a character is none of base64url (RFC 4648 §5).
func outsideBase64URL(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
}

// Knows reports whether an enabled row holds for a host, in normal form: by its name, by its parent's wildcard or by "*".
func (v *View) Knows(host string) bool {
	if v == nil || host == "" {
		return false
	}
	if v.lookup(host, "") != "" || v.lookup("*", "") != "" {
		return true
	}
	dot := strings.IndexByte(host, '.')
	return dot >= 0 && v.lookup(host[dot:], "") != ""
}

// FirstVersion returns the upstream that has v1 for a request: what the rule that holds for it names, whatever its share of
// v2 is; else the one called v1.
func (v *View) FirstVersion(r *Request) string {
	if v == nil {
		return V1
	}
	var whole place
	whole.read(v.lookup(r.Host, ""))
	var m match
	var asked bool
	if !v.find(&m, &whole, r, normalizePath(r.Path), &asked) || m.entry.redirect {
		return V1
	}
	return v.names.at(m.entry.v1)
}
