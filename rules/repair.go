package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Authority is a host as URLs name it.
type Authority struct {
	Host string // in normal form
	Port string // in digits; empty where none is given
}

var errAuthority = errors.New("must be a name, with a port if need be, such as legacy.internal or 10.0.0.5:8080 (names of other scripts as xn--…)")

// ParseAuthority reads what a URL has between // and its path. A user is no part of it.
func ParseAuthority(text string) (Authority, error) {
	host, err := NormalizeHost(text)
	if err != nil || !isVisible(text) {
		return Authority{}, errAuthority
	}
	a := Authority{Host: host}
	if i := strings.LastIndexByte(text, ':'); i > strings.IndexByte(text, ']') && (strings.Count(text, ":") == 1 || text[0] == '[') {
		port, err := strconv.Atoi(text[i+1:])
		if text[i+1:] != "" && (err != nil || port < 1 || port > 65535) {
			return Authority{}, errAuthority
		}
		if err == nil {
			a.Port = strconv.Itoa(port)
		}
	}
	return a, nil
}

// maxOwnHosts bounds what each absolute URL of an answer is held against.
const maxOwnHosts = 100

// ParseOwnHosts reads own_hosts: authorities separated by commas or spaces.
func ParseOwnHosts(text string) ([]Authority, error) {
	words := strings.FieldsFunc(text, isSeparator)
	if len(words) > maxOwnHosts {
		return nil, fmt.Errorf("must have at most %d hosts", maxOwnHosts)
	}
	var list []Authority
	for _, word := range words {
		a, err := ParseAuthority(word)
		if err != nil {
			return nil, fmt.Errorf("has %q: each %w", word, err)
		}
		list = append(list, a)
	}
	return list, nil
}

// ValidateRepair returns why settings of a row make no sense, beginning with the column's name; nil if they do.
func ValidateRepair(r *Repair) error {
	var hostErr error
	if r.Host != "" {
		_, hostErr = ParseAuthority(r.Host)
	}
	_, ownErr := ParseOwnHosts(r.OwnHosts)
	_, requestErr := ParseHeaderEdits(r.RequestHeaders)
	_, responseErr := ParseHeaderEdits(r.ResponseHeaders)
	for _, column := range []struct {
		name string
		err  error
	}{
		{"send_host", hostErr},
		{"own_hosts", ownErr},
		{"strip_prefix", validatePrefix(r.StripPrefix)},
		{"add_prefix", validatePrefix(r.AddPrefix)},
		{"cookie_domain", validateCookieDomain(r.CookieDomain)},
		{"cookie_prefix", validateCookiePrefix(r.CookiePrefix)},
		{"request_headers", requestErr},
		{"response_headers", responseErr},
	} {
		if column.err != nil {
			return fmt.Errorf("%s %w", column.name, column.err)
		}
	}
	return nil
}

const maxPrefix = 1000

func validatePrefix(prefix string) error {
	switch {
	case prefix == "":
		return nil
	case prefix[0] != '/' || prefix[len(prefix)-1] == '/':
		return errors.New("must begin with / and not end with one, such as /shop, or be empty")
	case len(prefix) > maxPrefix:
		return fmt.Errorf("must have at most %d characters", maxPrefix)
	case !isVisible(prefix) || strings.ContainsAny(prefix, "?#\\;\"'"):
		return errors.New("must be of visible ASCII without ? # \\ ; and quotes (other characters as %XX)")
	case !isEscaped(prefix):
		return errors.New("must have two hexadecimal digits after each %")
	case strings.Contains(prefix, "//") || hasDots(prefix):
		return errors.New("must have neither . nor .. nor an empty text between two slashes")
	}
	return nil
}

// hasDots reports whether a segment is . or .. for whoever decodes escapes.
func hasDots(path string) bool {
	for segment := range strings.SplitSeq(loosened(path), "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

func validateCookieDomain(domain string) error {
	if domain == "" {
		return nil
	}
	if _, err := netip.ParseAddr(domain); err == nil || !isNormal(strings.ToLower(domain)) || domain[0] == '.' {
		return errors.New("must be a host name such as example.com, without a leading dot and a port; empty for the visitor's host alone")
	}
	return nil
}

const maxCookiePrefix = 32

func validateCookiePrefix(prefix string) error {
	switch {
	case prefix == "":
		return nil
	case strings.Contains(prefix, ".") || !isName(prefix) || len(prefix) > maxCookiePrefix:
		return errors.New("must be of letters, digits, _ and -, at most 32 of them")
	case prefix == "_" || strings.HasPrefix(prefix, "__"):
		return errors.New("must not begin with __, by which browsers know __Host- and __Secure-")
	case strings.HasPrefix(VisitorCookie, prefix):
		return errors.New("must not be the beginning of " + VisitorCookie + ", which is Cutover's own cookie")
	}
	return nil
}

// Climbs reports whether an escaped path leads above its own beginning, be it only for a server that decodes more than it
// should. What stands before such a path holds it in no folder.
func Climbs(path string) bool {
	plain := path
	if strings.IndexByte(path, '%') >= 0 {
		plain = unescapeUnreserved(path)
	}
	if !strings.Contains(plain, "..") && !strings.ContainsAny(plain, "%\\;") {
		return false
	}
	depth := 0
	for segment := range strings.SplitSeq(strings.TrimPrefix(plain, "/"), "/") {
		switch segment {
		case "", ".": // many servers take several slashes for one
		case "..":
			depth--
		default:
			depth++
		}
		if depth < 0 {
			return true
		}
	}
	return hidesDots(normalizePath(path))
}
