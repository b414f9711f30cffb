package cgi

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// environment is what a program is told of a request (RFC 3875 §4.1). A header of the visitor cannot be taken for anything else.
func (h *Handler) environment(r *http.Request, length int64) ([]string, error) {
	prefix := strings.TrimRight(r.Header.Get("X-Forwarded-Prefix"), "/")
	secure := r.Header.Get("X-Forwarded-Proto") == "https"
	name, port := serverOf(r, secure)
	list := slices.Clone(h.o.Environment)
	add := func(key, value string) { list = append(list, key+"="+value) }
	add("GATEWAY_INTERFACE", "CGI/1.1")
	add("SERVER_SOFTWARE", "cutover")
	add("SERVER_PROTOCOL", r.Proto)
	add("SERVER_NAME", name)
	add("SERVER_PORT", port)
	add("REQUEST_METHOD", r.Method)
	add("REQUEST_URI", prefix+r.RequestURI)
	add("REQUEST_SCHEME", map[bool]string{false: "http", true: "https"}[secure])
	if secure {
		add("HTTPS", "on")
	}
	add("QUERY_STRING", r.URL.RawQuery)
	add("SCRIPT_NAME", prefix)
	add("SCRIPT_FILENAME", h.o.Program[0])
	add("PATH_INFO", r.URL.Path)
	client := clientOf(r)
	add("REMOTE_ADDR", client)
	add("REMOTE_HOST", client)
	if length > 0 || r.Header.Get("Content-Type") != "" {
		add("CONTENT_LENGTH", strconv.FormatInt(length, 10))
	}
	if kind := r.Header.Get("Content-Type"); kind != "" {
		add("CONTENT_TYPE", kind)
	}
	add("HTTP_HOST", r.Host)
	list = append(list, headersOf(r.Header)...)
	if slices.ContainsFunc(list, func(entry string) bool { return strings.ContainsRune(entry, 0) }) {
		return nil, errors.New("a path or header has a zero byte")
	}
	return list, nil
}

// headersOf returns the variables of headers. A header with an underscore is left out, since it could not be told from one with a
// hyphen; so is Proxy, which many programs would take for the proxy that they are to use (CVE-2016-5385).
func headersOf(header http.Header) (list []string) {
	for name, values := range header {
		switch {
		case isHopByHop(name), name == "Proxy", name == "Content-Type", name == "Content-Length", name == "Host", !isPlain(name):
			continue
		}
		separator := ", "
		if name == "Cookie" {
			separator = "; "
		}
		list = append(list, "HTTP_"+strings.ReplaceAll(strings.ToUpper(name), "-", "_")+"="+strings.Join(values, separator))
	}
	return list
}

func isPlain(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-'
	})
}

func isHopByHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// serverOf returns the host and the port that the visitor asked for.
func serverOf(r *http.Request, secure bool) (name, port string) {
	port = "80"
	if secure {
		port = "443"
	}
	host := r.Header.Get("X-Forwarded-Host")
	if host == "" {
		host = r.Host
	}
	if name, given, err := net.SplitHostPort(host); err == nil {
		return name, given
	}
	return strings.Trim(host, "[]"), port
}

// clientOf returns the visitor's address. Cutover says it.
func clientOf(r *http.Request) string {
	if address, err := netip.ParseAddr(r.Header.Get("X-Real-Ip")); err == nil {
		return address.Unmap().String()
	}
	return "127.0.0.1" // who speaks to the socket without Cutover is on this machine
}
