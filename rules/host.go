package rules

import (
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// maxUnicodeHost is the length in bytes that a name in another script can have at most: four for each of 253 characters.
const maxUnicodeHost = 4 * 253

// ErrHost says that a Host header or TLS name cannot be a host.
var ErrHost = errors.New("not a host name")

// NormalizeHost turns a Host header or a TLS name into the form that rules are matched by: without port and trailing
// dot, in lower case, names of other scripts in ASCII (RFC 5891), an IPv6 address without brackets. A host that is in
// that form already is returned as it is.
func NormalizeHost(host string) (string, error) {
	if isNormal(host) {
		return host, nil
	}
	if address, ok := literal(host); ok {
		return address, nil
	}
	name := strings.TrimSuffix(withoutPort(host), ".")
	if len(name) > maxUnicodeHost {
		return "", ErrHost // conversion takes time that grows with the square of the length
	}
	if !isASCII(name) {
		ascii, err := idna.Lookup.ToASCII(name)
		if err != nil {
			return "", ErrHost
		}
		name = ascii
	}
	name = strings.ToLower(name)
	if !isNormal(name) {
		return "", ErrHost
	}
	return name, nil
}

// literal recognises an IPv6 address, with or without brackets and port.
func literal(host string) (string, bool) {
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 || (host[end+1:] != "" && !isPort(host[end+1:])) {
			return "", false
		}
		host = host[1:end]
	}
	if strings.Count(host, ":") < 2 {
		return "", false
	}
	address, err := netip.ParseAddr(host)
	if err != nil || address.Zone() != "" {
		return "", false
	}
	return address.String(), true
}

// withoutPort cuts ":8080" off. What follows a colon and is no port stays, and is refused later.
func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && isPort(host[i:]) {
		return host[:i]
	}
	return host
}

// isPort reports whether text is a colon and up to five digits; an empty port is one (RFC 3986 §3.2.3).
func isPort(text string) bool {
	return len(text) <= 6 && text[0] == ':' && strings.Trim(text[1:], "0123456789") == ""
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isNormal reports whether name is a DNS name in normal form: labels of a-z, 0-9, "-" and "_", at most 63 bytes each
// and 253 together (RFC 1035 §2.3.4); the underscore because names with it are in use. An IPv4 address is one too.
func isNormal(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
			continue
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0
}

// isCertifiable reports whether a certificate may be asked for: a name with a dot, no address, and letters, digits
// and hyphens only (RFC 1123 §2.1).
func isCertifiable(name string) bool {
	if !isNormal(name) || !strings.Contains(name, ".") || strings.Contains(name, "_") {
		return false
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return true
}
