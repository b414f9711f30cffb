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
	policy  bool // the host has a row of its own in the table hosts
	https   bool // that row asks for https
	hsts    int64
	deep    uint64 // of a whole host: how many places with a path it has
	longest uint64 // of a whole host: no prefix below it is longer, in bytes
	entries string // see entry
}

// The bits of a place's first byte.
const (
	placePolicy = 1 << iota
	placeHTTPS
	placeDeep
)

// empty reports whether the place says nothing.
func (p *place) empty() bool { return !p.policy && p.deep == 0 && p.entries == "" }

func (p *place) append(b []byte) []byte {
	b = append(b, flag(flag(flag(0, p.policy, placePolicy), p.https, placeHTTPS), p.deep > 0, placeDeep))
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
	p.policy, p.https = first&placePolicy != 0, first&placeHTTPS != 0
	if p.policy {
		p.hsts = c.int()
	}
	if first&placeDeep != 0 {
		p.deep, p.longest = c.uint(), c.uint()
	}
	p.entries = c.rest
}

func readPlace(text string) (p place) {
	p.read(text)
	return p
}
