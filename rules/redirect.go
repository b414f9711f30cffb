package rules

import (
	"errors"
	"net/url"
	"strings"
)

// destination is to_url made ready: everything that a Location is built from. The authority is never taken from a
// request.
type destination struct {
	origin   string // scheme://authority
	path     string // escaped; starts with /
	query    string // without "?"
	fragment string // with "#", or empty
}

// append writes the destination as bytes.
func (d *destination) append(b []byte) []byte {
	return appendText(appendText(appendText(appendText(b, d.origin), d.path), d.query), d.fragment)
}

// read reads what append wrote.
func (d *destination) read(c *cursor) {
	d.origin, d.path, d.query, d.fragment = c.text(), c.text(), c.text(), c.text()
}

func parseDestination(text string) (destination, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.Opaque != "" || u.User != nil {
		return destination{}, errors.New("to_url must be a whole URL such as https://www.example.com/new")
	}
	if strings.ContainsAny(text, " \\\"<>^`{|}") || strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		return destination{}, errors.New("to_url must be printable ASCII without spaces (write other characters as %XX)")
	}
	d := destination{origin: u.Scheme + "://" + u.Host, path: u.EscapedPath(), query: u.RawQuery}
	if d.path == "" {
		d.path = "/"
	}
	if u.Fragment != "" {
		d.fragment = "#" + u.EscapedFragment()
	}
	return d, nil
}

// location builds the Location for a request: rest is what follows the redirect's prefix in the request's escaped
// path, empty unless keep_path; query is the request's raw query, empty unless keep_query.
func (d *destination) location(rest, query string) string {
	path := d.path
	if rest != "" {
		path = strings.TrimRight(path, "/") + "/" + strings.TrimLeft(headerSafe(rest), "/")
	}
	joined := d.query
	if query = headerSafe(query); query != "" {
		if joined != "" {
			joined += "&"
		}
		joined += query
	}
	if joined != "" {
		joined = "?" + joined
	}
	return d.origin + path + joined + d.fragment
}

// headerSafe escapes what must not stand in a Location: control characters, spaces, quotes, other scripts, and
// backslashes, which browsers take for slashes.
func headerSafe(text string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(text) {
		if c := text[i]; c > ' ' && c <= '~' && strings.IndexByte("\\\"<>^`{|}#", c) < 0 {
			out.WriteByte(c)
		} else {
			out.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return out.String()
}
