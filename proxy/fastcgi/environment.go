package fastcgi

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// fixedParams encodes what an application is always told, and returns the names that the configuration gives a value.
func fixedParams(c *Config) (named map[string]bool, encoded []byte) {
	all := map[string]string{
		"GATEWAY_INTERFACE": "CGI/1.1",
		"SERVER_SOFTWARE":   "Cutover",
		"REDIRECT_STATUS":   "200", // php asks for it where it was built with force-cgi-redirect
	}
	if c.Root != "" {
		all["DOCUMENT_ROOT"] = c.Root
	}
	named = map[string]bool{}
	for name, value := range c.Params {
		all[name], named[name] = value, true
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		encoded = appendLength(appendLength(encoded, len(name)), len(all[name]))
		encoded = append(append(encoded, name...), all[name]...)
	}
	return named, encoded
}

// appendRequest appends the beginning of a request, all but its body, to out. ok is false if a header field is longer than
// FastCGI can carry. bodyLength is -1 where there is no body.
func (t *Transport) appendRequest(out []byte, r *http.Request, where place, bodyLength int64) (request []byte, ok bool) {
	p := &pairs{out: appendBegin(out, t.config.MaxIdle > 0), named: t.named}
	p.open(len(t.fixed))
	p.out = append(p.out, t.fixed...)
	p.addRequest(r, where.uri, bodyLength)
	p.addPlace(t.config.Root, where)
	p.addOrigin(t.config.Origin(r), r.Host)
	p.addFields(r)
	p.close()
	return appendHeader(p.out, typeParams, 0), !p.tooLong
}

// addRequest adds what the request line says, and of which kind the body is.
func (p *pairs) addRequest(r *http.Request, uri string, bodyLength int64) {
	proto := r.Proto
	if proto == "" {
		proto = "HTTP/1.1"
	}
	p.add("SERVER_PROTOCOL", proto)
	p.add("REQUEST_METHOD", orDefault(r.Method, http.MethodGet))
	p.add("REQUEST_URI", uri)
	p.add("QUERY_STRING", r.URL.RawQuery)
	if kind := r.Header.Get("Content-Type"); kind != "" {
		p.add("CONTENT_TYPE", kind)
	}
	if bodyLength >= 0 {
		p.add("CONTENT_LENGTH", strconv.FormatInt(bodyLength, 10))
	}
}

// addPlace adds what the path means (RFC 3875 §4.1.5, §4.1.6, §4.1.13).
func (p *pairs) addPlace(root string, where place) {
	p.add("SCRIPT_NAME", where.script)
	p.add("DOCUMENT_URI", where.script, where.info)
	if where.script != "" {
		p.add("SCRIPT_FILENAME", below(root), where.script)
	}
	if where.info == "" {
		return
	}
	p.add("PATH_INFO", where.info)
	if root != "" {
		p.add("PATH_TRANSLATED", below(root), where.info)
	}
}

// below returns what a path that begins with a slash is put behind, to be below root.
func below(root string) string {
	if root == "/" {
		return ""
	}
	return root
}

// addOrigin adds who asks whom.
func (p *pairs) addOrigin(o Origin, host string) {
	scheme, port := "http", "80"
	if o.HTTPS {
		scheme, port = "https", "443"
		p.add("HTTPS", "on")
	}
	p.add("REQUEST_SCHEME", scheme)
	name := host
	if _, number, err := net.SplitHostPort(host); err == nil && isNumber(number) {
		name, port = host[:len(host)-len(number)-1], number // an IPv6 address keeps its brackets
	}
	if !isHostName(name) {
		name = ""
	}
	p.add("SERVER_NAME", name)
	p.add("SERVER_PORT", port)
	if !o.Remote.Addr().IsValid() {
		return
	}
	p.add("REMOTE_ADDR", o.Remote.Addr().Unmap().WithZone("").String())
	if o.Remote.Port() > 0 {
		p.add("REMOTE_PORT", strconv.Itoa(int(o.Remote.Port())))
	}
}

// isHostName reports whether an application may print a name as it is; it is what the visitor made up.
func isHostName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && !strings.ContainsRune(".-_:[]", rune(c)) {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// addFields adds the header fields, but for those that concern the connection, or have variables of their own.
func (p *pairs) addFields(r *http.Request) {
	p.add("HTTP_HOST", r.Host)
	for name, values := range r.Header {
		if len(values) > 0 && isPassed(name) {
			p.addField(name, values)
		}
	}
}

// isPassed reports whether a header field reaches the application. Names with anything but letters, digits and hyphens do not:
// an underscore, and in php a dot, would make them look like another field's, which somebody before us has checked.
func isPassed(name string) bool {
	for i := range len(name) {
		if !isAlphanumeric(name[i]) && name[i] != '-' {
			return false
		}
	}
	for _, kept := range [...]string{
		"Proxy", // programs take HTTP_PROXY for the proxy that they are to use
		"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
		"Host", "Content-Type", "Content-Length", "",
	} {
		if len(kept) == len(name) && strings.EqualFold(kept, name) {
			return false
		}
	}
	return true
}

// addField adds a header field that may stand on several lines.
func (p *pairs) addField(name string, values []string) {
	separator := ", "
	if strings.EqualFold(name, "Cookie") {
		separator = "; "
	}
	length := len(separator) * (len(values) - 1)
	for _, value := range values {
		length += len(value)
	}
	if !p.begin(len("HTTP_")+len(name), length) {
		return
	}
	p.out = append(p.out, "HTTP_"...)
	for i := range len(name) {
		p.out = append(p.out, variableByte(name[i]))
	}
	for i, value := range values {
		if i > 0 {
			p.out = append(p.out, separator...)
		}
		p.out = append(p.out, value...)
	}
}

func variableByte(c byte) byte {
	switch {
	case c == '-':
		return '_'
	case c >= 'a' && c <= 'z':
		return c - 'a' + 'A'
	}
	return c
}
