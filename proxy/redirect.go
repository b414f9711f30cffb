package proxy

import (
	"net/http"
	"strings"

	"cutover/rules"
)

// redirect answers with a Location and without a body.
func redirect(e *exchange, status int, location string) {
	header := e.out.Header()
	header.Set("Location", location)
	header.Set("Content-Length", "0")
	e.out.WriteHeader(status)
}

// redirectToHTTPS answers a request in clear text where its host asks for https and a certificate can be served. Until
// then it is asked for, and the request is served as it came; with passthrough the upstream has one. What a CA asks stays in
// clear text (RFC 8555 §8.3).
func (h *Handler) redirectToHTTPS(e *exchange, view *rules.View, question *rules.Request) bool {
	if e.secure || e.decision.HTTPS != rules.HTTPSRedirect || rules.IsChallenge(question) {
		return false
	}
	if row, _ := view.Host(e.host); row.TLS != rules.TLSPassthrough && (h.CertificateReady == nil || !h.CertificateReady(e.host)) {
		if h.PrepareCertificate != nil {
			h.PrepareCertificate(e.host, e.client)
		}
		return false
	}
	e.out.Header().Set("X-Request-Id", e.id)
	redirect(e, http.StatusPermanentRedirect, "https://"+authority(e.host)+requestTarget(e.in))
	return true
}

// authority puts an IPv6 address into brackets.
func authority(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// requestTarget returns path and query as the client sent them.
func requestTarget(r *http.Request) string {
	target := rawPath(r)
	if !strings.HasPrefix(target, "/") {
		target = "/"
	}
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		target += "?" + r.URL.RawQuery
	}
	return target
}
