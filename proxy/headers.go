package proxy

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strings"

	"cutover/rules"
)

// rewrite makes the request that the target gets: the visitor's own, byte for byte where that is possible, with
// forwarding headers that can be believed. ReverseProxy has removed hop-by-hop headers before.
func (h *Handler) rewrite(e *exchange, r *httputil.ProxyRequest) {
	r.Out.Host = r.In.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery // ReverseProxy drops parts that it cannot parse; the target may want them
	if raw := rawPath(r.In); raw != r.In.URL.EscapedPath() && !strings.HasPrefix(raw, "//") {
		r.Out.URL.Opaque = raw // net/url would escape what the visitor did not
	}
	r.Out.Trailer = r.In.Trailer // the same map: its values come when the body ends
	keepUpgrade(r.Out.Header, e.upload != nil)
	removeVisitorCookie(r.Out.Header)
	if e.consumed {
		r.Out.Header.Del("Authorization")
	}
	dropForwarding(r.Out.Header, e.trusted)
	if e.trusted {
		keepForwarding(r.Out.Header, r.In.Header)
	}
	h.addForwarding(e, r)
	e.repairRequest(r.Out)
}

// rawPath returns the path as it stands in the request line.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if _, rest, ok := strings.Cut(path, "://"); ok && !strings.HasPrefix(path, "/") {
		slash := strings.IndexByte(rest, '/') // absolute form (RFC 9112 §3.2.2)
		if slash < 0 {
			return r.URL.EscapedPath()
		}
		path = rest[slash:]
	}
	if !strings.HasPrefix(path, "/") {
		return r.URL.EscapedPath()
	}
	return path
}

// pathOf returns a request's path as rules and guards read it: what is forwarded, with an escape for each byte that may not stand
// there. net/url would escape the whole of such a path anew, an escaped slash of it becoming a border.
func pathOf(r *http.Request) string {
	raw := rawPath(r)
	if strings.IndexFunc(raw, needsEscape) < 0 {
		return raw
	}
	var out strings.Builder
	for i := range len(raw) {
		if c := raw[i]; c >= 0x80 || needsEscape(rune(c)) {
			fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

// needsEscape reports whether a character may not stand in a path (RFC 3986 §3.3).
func needsEscape(c rune) bool {
	switch c {
	case '"', '<', '>', '\\', '^', '`', '{', '|', '}':
		return true
	}
	return c <= ' ' || c >= 0x7f
}

// keepUpgrade leaves a request to switch protocols as it is, but for protocols that would carry further requests past
// us, unseen and undecided: HTTP itself, and TLS around it. A request with a body switches to nothing, as a server may
// decide (RFC 9110 §7.8): body and tunnel would be read from the connection at once.
func keepUpgrade(header http.Header, body bool) {
	header.Del("Http2-Settings")
	asked := header.Get("Upgrade")
	if asked == "" {
		return
	}
	if body {
		asked = ""
	}
	for protocol := range strings.SplitSeq(asked, ",") {
		protocol = strings.TrimSpace(protocol)
		name, _, _ := strings.Cut(strings.ToLower(protocol), "/")
		switch name {
		case "", "h2c", "h2", "http", "tls":
			continue
		}
		header.Set("Upgrade", protocol) // one, since the answer must name it
		return
	}
	header.Del("Connection")
	header.Del("Upgrade")
}

// dropForwarding removes what only a proxy may say. Spelled with an underscore it is never believed, since trusted
// proxies let that pass and CGI and its heirs cannot tell it from a hyphen.
func dropForwarding(header http.Header, trusted bool) {
	header.Del("Proxy") // CGI would take it for the proxy that a program is to use
	for name := range header {
		spelled := strings.ReplaceAll(name, "_", "-")
		if rules.IsForwardingHeader(spelled) && (!trusted || spelled != name) {
			delete(header, name)
		}
	}
}

// keepForwarding puts back what ReverseProxy removes whoever says it.
func keepForwarding(out, in http.Header) {
	if forwarded := in["Forwarded"]; len(forwarded) > 0 {
		out["Forwarded"] = append([]string(nil), forwarded...)
	}
	if host := in.Get("X-Forwarded-Host"); host != "" {
		out.Set("X-Forwarded-Host", host)
	}
}

// addForwarding says who asks, for what and how. What a trusted proxy before us said is kept.
func (h *Handler) addForwarding(e *exchange, r *httputil.ProxyRequest) {
	out := r.Out.Header
	if peer := e.peer.Addr(); peer.IsValid() {
		last := peer.String()
		client, chain := last, last
		if e.client != peer {
			client = e.client.String()
		}
		if hops := r.In.Header["X-Forwarded-For"]; e.trusted && len(hops) > 0 {
			chain = strings.Join(hops, ", ") + ", " + last
		}
		out.Set("X-Forwarded-For", chain)
		out.Set("X-Real-Ip", client)
	}
	out.Set("X-Forwarded-Proto", e.scheme())
	if out.Get("X-Forwarded-Host") == "" {
		out.Set("X-Forwarded-Host", r.In.Host)
	}
	out.Set("X-Request-Id", e.id)
	if h.Instance != "" {
		out.Add(loopHeader, h.Instance)
	}
}

// removeVisitorCookie keeps our own cookie from the target, whose caches may tell visitors apart by any cookie. The rest
// stays as it is.
func removeVisitorCookie(header http.Header) {
	lines := header["Cookie"]
	kept := lines[:0:0]
	for _, line := range lines {
		if !strings.Contains(line, CookieName) {
			kept = append(kept, line)
		} else if line = withoutCookie(line, CookieName); line != "" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		delete(header, "Cookie")
		return
	}
	header["Cookie"] = kept
}

func withoutCookie(line, name string) string {
	parts := strings.Split(line, ";")
	kept := parts[:0]
	for _, part := range parts {
		if cookie, _, _ := strings.Cut(part, "="); textproto.TrimString(cookie) != name {
			kept = append(kept, part)
		}
	}
	return textproto.TrimString(strings.Join(kept, ";"))
}
