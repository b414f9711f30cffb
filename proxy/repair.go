package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"cutover/proxy/repair"
	"cutover/rules"
)

// planRepair says how the request and its answer are to be changed for an upstream. What a CA asks an ACME client of v1 passes as it
// is: its path is fixed (RFC 8555 §8.3).
func (h *Handler) planRepair(e *exchange, view *rules.View, up *rules.Upstream) *problem {
	if e.decision.Reason == rules.ReasonChallenge {
		return nil
	}
	if e.repair = h.repairs.For(up, view.Upstreams()); e.repair == nil {
		return nil
	}
	var err error
	if e.paths, err = e.repair.Paths(rawPath(e.in)); err != nil {
		return &problem{status: http.StatusBadRequest, cause: err}
	}
	return nil
}

// repairRequest changes a request that is made ready otherwise.
func (e *exchange) repairRequest(out *http.Request) {
	if e.repair == nil {
		return
	}
	if e.paths.Target != e.paths.Visitor {
		setPath(out.URL, e.paths.Target)
	}
	e.repair.Request(out, e.paths)
}

// setPath has a request ask for a path byte for byte: net/url would escape what the visitor did not. Where it begins with two
// slashes there is no way around that.
func setPath(u *url.URL, raw string) {
	u.Opaque = ""
	plain, err := url.PathUnescape(raw)
	if err != nil {
		plain = raw // cannot be: net/http has read it
	}
	u.Path, u.RawPath = plain, raw
	if u.EscapedPath() != raw && !strings.HasPrefix(raw, "//") {
		u.Opaque = raw
	}
}

// repairAnswer changes an answer of the target's.
func (e *exchange) repairAnswer(header http.Header) {
	if !e.repair.Concerns(header) {
		return
	}
	e.repair.Answer(header, &repair.Visit{
		Scheme: e.scheme(), Host: e.host, Authority: authority(e.host) + portOf(e.in.Host), Target: e.target, Paths: e.paths,
	})
}

// portOf returns the port of a Host header with its colon; empty where it has none.
func portOf(host string) string {
	named, err := rules.ParseAuthority(host)
	if err != nil || named.Port == "" {
		return ""
	}
	return ":" + named.Port
}
