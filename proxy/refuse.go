package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"cutover/rules"
)

var (
	errGone        = errors.New("a redirect says that this is gone")
	errUnknownHost = errors.New("no rule knows this host, and the default is to refuse")
	errConnect     = errors.New("CONNECT is not served")
	errLoop        = errors.New("the request has come back to the process that forwarded it: a target leads to this proxy")
)

// refuse returns why a request must not be served at all.
func (h *Handler) refuse(r *http.Request) *problem {
	if r.Method == http.MethodConnect {
		return &problem{status: http.StatusMethodNotAllowed, cause: errConnect}
	}
	host, err := rules.NormalizeHost(r.Host)
	if err != nil {
		return &problem{status: http.StatusBadRequest, cause: fmt.Errorf("host %q: %w", r.Host, err)}
	}
	if p := refuseAuthority(r, host); p != nil {
		return p
	}
	if h.Instance != "" && looped(r.Header["Via"], h.Instance) {
		return &problem{status: http.StatusLoopDetected, cause: errLoop}
	}
	return nil
}

// refuseAuthority holds the request's host against the TLS name (RFC 9110 §7.4): a resumed session skips the gate on
// certificates, and one host must not be had over another's connection.
func refuseAuthority(r *http.Request, host string) *problem {
	if r.TLS == nil || r.TLS.ServerName == "" {
		return nil
	}
	name, err := rules.NormalizeHost(r.TLS.ServerName)
	if err != nil || name != host {
		return &problem{status: http.StatusMisdirectedRequest, cause: fmt.Errorf("the host is %q but the TLS name is %q", host, r.TLS.ServerName)}
	}
	return nil
}

// looped reports whether our own name is among the receivers of a Via header (RFC 9110 §7.6.3).
func looped(via []string, instance string) bool {
	return slices.ContainsFunc(via, func(line string) bool {
		return slices.ContainsFunc(strings.Split(line, ","), func(entry string) bool {
			fields := strings.Fields(entry)
			return len(fields) >= 2 && fields[1] == instance
		})
	})
}

// redirectToHTTPS answers a request in clear text where its host asks for https and a certificate can be served. Until
// then it is asked for, and the request is served as it came. ACME's own requests stay in clear text.
func (h *Handler) redirectToHTTPS(e *exchange) bool {
	if e.in.TLS != nil || e.decision.HTTPS != rules.HTTPSRedirect || strings.HasPrefix(e.in.URL.Path, "/.well-known/acme-challenge/") {
		return false
	}
	if h.CertificateReady == nil || !h.CertificateReady(e.host) {
		if h.PrepareCertificate != nil {
			h.PrepareCertificate(e.host)
		}
		return false
	}
	h.decorate(e.out.Header(), e)
	e.out.Header().Set("Location", "https://"+e.host+requestTarget(e.in))
	e.out.WriteHeader(http.StatusPermanentRedirect)
	return true
}

// requestTarget returns path and query as the client sent them.
func requestTarget(r *http.Request) string {
	target := r.URL.EscapedPath()
	if !strings.HasPrefix(target, "/") {
		target = "/"
	}
	if r.URL.RawQuery != "" || r.URL.ForceQuery {
		target += "?" + r.URL.RawQuery
	}
	return target
}

// decorate sets what the decision asks for on an answer, whoever gives it.
func (h *Handler) decorate(header http.Header, e *exchange) {
	header.Set("X-Request-Id", e.id)
	d := &e.decision
	if d.Split() && d.Sticky == rules.StickyCookie && !d.Visitor.Returned {
		header.Add("Set-Cookie", h.Visitors.cookie(e.host, d.Visitor, e.in.TLS != nil).String())
	}
	if d.VaryCookie {
		header.Add("Vary", "Cookie")
	}
	if d.HSTS > 0 && e.in.TLS != nil && header.Get("Strict-Transport-Security") == "" {
		header.Set("Strict-Transport-Security", "max-age="+strconv.FormatInt(d.HSTS, 10))
	}
}
