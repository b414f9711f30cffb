package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"cutover/proxy/admin"
)

// place is a host and a path, as an operator names them in one word: HOST[/PATH].
type place struct {
	host string // as rows have it: in ASCII, lower case; or *.example.com, or *
	path string // starts with /
}

func (p place) String() string { return p.host + p.path }

// parsePlace reads shop.example.com, shop.example.com/cart, *.example.com, */old and https://shop.example.com/cart.
// A host typed in Unicode is turned into ASCII, and so is a path, by percent signs.
func parsePlace(text string) (place, error) {
	rest := text
	for _, scheme := range []string{"https://", "http://"} {
		if len(rest) >= len(scheme) && strings.EqualFold(rest[:len(scheme)], scheme) {
			rest = rest[len(scheme):]
			break
		}
	}
	host, path, found := strings.Cut(rest, "/")
	if strings.ContainsAny(rest, "?#") {
		return place{}, badPlace(text, errors.New("a query or a fragment cannot be part of it"))
	}
	if found || path != "" {
		path = "/" + path
	} else {
		path = "/"
	}
	host, err := parseHost(host)
	if err != nil {
		return place{}, badPlace(text, err)
	}
	path, err = escapePath(path)
	if err != nil {
		return place{}, badPlace(text, err)
	}
	return place{host: host, path: path}, nil
}

func badPlace(text string, err error) error {
	return withHint(&usageError{fmt.Errorf("%q: %w", text, err)}, "name it as shop.example.com, shop.example.com/cart, *.example.com or *")
}

// parseHost returns a host as rows have it. A port is refused: a row holds for all ports.
func parseHost(text string) (string, error) {
	if text == "" {
		return "", errors.New("there is no host in it")
	}
	if strings.Contains(text, ":") && !strings.HasPrefix(text, "[") {
		return "", errors.New("a port cannot be part of it; a host's rules hold for all ports")
	}
	return admin.NormalizePattern(text)
}

// parseHostArgument is parseHost for an argument that is a host alone.
func parseHostArgument(text string) (string, error) {
	p, err := parsePlace(text)
	if err != nil {
		return "", err
	}
	if p.path != "/" {
		return "", withHint(&usageError{fmt.Errorf("%q: a path cannot be part of it here", text)}, "name the host alone: "+p.host)
	}
	return p.host, nil
}

// escapePath writes a path as clients send it. One that is escaped already stays as it is.
func escapePath(path string) (string, error) {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return "", errors.New("a % in the path must be followed by two hexadecimal digits")
	}
	return u.EscapedPath(), nil
}
