package tlsbridge

import "strings"

// allowed is the gate for whatever is ordered or renewed: names as the rules say, and wildcard names where they can be proved.
// A handshake is asked by the rules alone, which never allow it a wildcard name.
func (c *Certificates) allowed(name string) bool {
	if strings.HasPrefix(name, "*.") {
		return c.ProvesWildcards() && c.options.AllowedWildcard != nil && c.options.AllowedWildcard(name)
	}
	return c.options.Allowed(name)
}

// ProvesWildcards reports whether wildcard certificates can be ordered at all: a CA takes a proof by the DNS alone.
func (c *Certificates) ProvesWildcards() bool {
	return c.options.DNS != nil || c.options.Issuer == IssuerLocal
}

// whyNotAllowed says why a name that is not allowed is not.
func (c *Certificates) whyNotAllowed(name string) error {
	if strings.HasPrefix(name, "*.") && !c.ProvesWildcards() {
		return ErrNoDNS
	}
	return errNotAllowed
}

// wildcardNote says what becomes of an imported wildcard certificate that is not renewed.
func (c *Certificates) wildcardNote(name string) string {
	const after = ": before it ends, each host that is asked for gets one of its own"
	if c.ProvesWildcards() {
		return "no row of hosts names " + name + ", so it is not renewed" + after
	}
	return "a wildcard certificate cannot be renewed here" + after
}
