package rules

import (
	"errors"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Protocol is what a target speaks.
type Protocol string

// The values of Protocol.
const (
	ProtocolHTTP Protocol = "http" // HTTP/1.1
	ProtocolH2C  Protocol = "h2c"  // HTTP/2 in clear text from the first byte on (RFC 9113 §3.3)
	ProtocolH2   Protocol = "h2"   // HTTP/2 over TLS (RFC 9113 §3.2)
	ProtocolFCGI Protocol = "fcgi" // FastCGI 1.0, in the responder role
)

// Address is where a target listens, and what it speaks there.
type Address struct {
	Protocol Protocol
	TLS      bool
	Network  string // tcp or unix
	Dial     string // host:port, or the path of a socket
	Host     string // without the port; empty for a socket
}

// kindOf returns what the beginning of a target's URL stands for, and the port if none is given; a socket has none.
func kindOf(scheme string) (kind Address, port string, ok bool) {
	switch scheme {
	case "http":
		return Address{Protocol: ProtocolHTTP, Network: "tcp"}, "80", true
	case "https":
		return Address{Protocol: ProtocolHTTP, Network: "tcp", TLS: true}, "443", true
	case "h2c":
		return Address{Protocol: ProtocolH2C, Network: "tcp"}, "80", true
	case "h2":
		return Address{Protocol: ProtocolH2, Network: "tcp", TLS: true}, "443", true
	case "fcgi":
		return Address{Protocol: ProtocolFCGI, Network: "tcp"}, "9000", true
	case "unix":
		return Address{Protocol: ProtocolHTTP, Network: "unix"}, "", true
	case "h2c+unix":
		return Address{Protocol: ProtocolH2C, Network: "unix"}, "", true
	case "fcgi+unix":
		return Address{Protocol: ProtocolFCGI, Network: "unix"}, "", true
	}
	return Address{}, "", false
}

// scheme is what the URL of a target with a host begins with.
func (a Address) scheme() string {
	if a.TLS && a.Protocol == ProtocolHTTP {
		return "https"
	}
	return string(a.Protocol)
}

// errAddress lists what a target's URL may be.
var errAddress = errors.New("url must be http://, https://, h2c://, h2:// or fcgi:// with host:port; unix:, h2c+unix: or fcgi+unix: with a path; app:NAME, cgi:NAME or file:NAME")

// ParseAddress reads the URL of a target that stands for one place; see ParseTarget for others.
func ParseAddress(text string) (Address, error) {
	scheme, rest, _ := strings.Cut(text, ":")
	kind, port, ok := kindOf(scheme)
	switch {
	case !ok:
		return Address{}, errAddress
	case kind.Network == "unix":
		return kind.onSocket(rest)
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return Address{}, errAddress
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || (u.Path != "" && u.Path != "/") {
		return Address{}, errors.New("url must have no user, path, query or fragment: requests keep their own")
	}
	if given := u.Port(); given != "" {
		port = given
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Address{}, errors.New("the port of a url must be a number from 1 to 65535")
	}
	kind.Host, kind.Dial = u.Hostname(), net.JoinHostPort(u.Hostname(), port)
	return kind, nil
}

// longestSocket is what the kernel takes as the path of a socket (unix(7)).
const longestSocket = 107

// ownSockets is the folder of the sockets on which Cutover itself is asked what only root and its own processes may ask.
const ownSockets = "/run/cutover"

func (a Address) onSocket(at string) (Address, error) {
	switch {
	case len(at) < 2 || len(at) > longestSocket || !isVisible(at) || strings.ContainsAny(at, "?#"):
		return Address{}, errors.New("the path of a socket must begin with / and have at most 107 characters of printable ASCII, without space, ? or #")
	case path.Clean(at) != at || at[0] != '/':
		return Address{}, errors.New("the path of a socket must be whole, without . or .. in it: unix:/run/app/app.sock")
	case strings.HasPrefix(at, ownSockets+"/") || strings.HasPrefix(at, "/var"+ownSockets+"/"):
		return Address{}, errors.New("url must not lead to a socket of Cutover's own")
	}
	a.Dial = at
	return a, nil
}
