package rules

import "strings"

// A place is where entries are found: a host and a path. The host is a name, ".parent" for a wildcard "*.parent", or
// "*"; the path is in normal form and without a slash at its end for a prefix, and empty for the whole host. A key is
// both, one after the other; a host holds no slash, so that keys are unambiguous.

// hostPart returns the host of a row's pattern, which patternKey made, as places name it.
func hostPart(pattern string) string {
	if len(pattern) > 1 && pattern[0] == '*' {
		return pattern[1:]
	}
	return pattern
}

// pathPart returns a row's path as places name it.
func pathPart(kind Kind, path string) string {
	path = normalizePath(path)
	if kind == KindExact {
		return path
	}
	return strings.TrimRight(path, "/")
}

// splitKey takes a key apart.
func splitKey(key string) (host, path string) {
	if slash := strings.IndexByte(key, '/'); slash >= 0 {
		return key[:slash], key[slash:]
	}
	return key, ""
}

// place is what a view says of a key.
type place struct {
	policy bool // the host has a row of its own in the table hosts
	https  bool // that row asks for https
	hsts   int64
	// certificate and passthrough are what that row says of certificates and TLS; file goes with certificateFile, and is
	// not among the place's bytes but in View.files, so that older programs can fall back on them.
	certificate certificateKind
	file        string
	passthrough bool

	deep    uint64 // of a whole host: how many places with a path it has
	longest uint64 // of a whole host: no prefix below it is longer, in bytes
	entries string // see entry
}

// The bits of a place's first byte.
const (
	placePolicy = 1 << iota
	placeHTTPS
	placeDeep
	placePassthrough

	placeCertificate = 4 // from this bit on: the kind of certificate
)

// certificateKind is what a row of hosts says of certificates.
type certificateKind byte

const (
	certificateAuto certificateKind = iota
	certificateAny
	certificateOff
	certificateFile

	certificateMask = 3
)

// empty reports whether the place says nothing.
func (p *place) empty() bool { return !p.policy && p.deep == 0 && p.entries == "" }

func (p *place) append(b []byte) []byte {
	first := byte(p.certificate) << placeCertificate
	b = append(b, flag(flag(flag(flag(first, p.policy, placePolicy), p.https, placeHTTPS), p.deep > 0, placeDeep), p.passthrough, placePassthrough))
	if p.policy {
		b = appendInt(b, p.hsts)
	}
	if p.deep > 0 {
		b = appendUint(appendUint(b, p.deep), p.longest)
	}
	return append(b, p.entries...)
}

// read reads what append wrote into an empty place; it shares its memory. No text is an empty place.
func (p *place) read(text string) {
	if text == "" {
		return
	}
	if text[0] == 0 { // most have entries only
		p.entries = text[1:]
		return
	}
	c := cursor{rest: text}
	first := c.byte()
	p.policy, p.https, p.passthrough = first&placePolicy != 0, first&placeHTTPS != 0, first&placePassthrough != 0
	p.certificate = certificateKind(first >> placeCertificate & certificateMask)
	if p.policy {
		p.hsts = c.int()
	}
	if first&placeDeep != 0 {
		p.deep, p.longest = c.uint(), c.uint()
	}
	p.entries = c.rest
}

// setPolicy takes over what another place's row of hosts says.
func (p *place) setPolicy(from *place) {
	p.policy, p.https, p.hsts = from.policy, from.https, from.hsts
	p.certificate, p.file, p.passthrough = from.certificate, from.file, from.passthrough
}

func readPlace(text string) (p place) {
	p.read(text)
	return p
}
