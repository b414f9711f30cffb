package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"cutover/rules"
)

var (
	errGone        = errors.New("a redirect says that this is gone")
	errUnknownHost = errors.New("no rule knows this host, and the default is to refuse")
	errConnect     = errors.New("CONNECT is not served")
	errForm        = errors.New("the request line names no path and no http or https URL")
	errUser        = errors.New("the URL of the request line names a user")
	errUpgrade     = errors.New("the Upgrade header is no protocol")
	errLoop        = errors.New("the request has come back to the process that forwarded it: a target leads to this proxy")
)

// refuse returns why a request must not be served at all; otherwise it has filled in the host.
func (h *Handler) refuse(e *exchange) *problem {
	r := e.in
	if r.Method == http.MethodConnect {
		return &problem{status: http.StatusMethodNotAllowed, cause: errConnect}
	}
	if most := h.Limits.Headers; most > 0 && countHeaders(r.Header) > most {
		return &problem{status: http.StatusRequestHeaderFieldsTooLarge, cause: errHeaderCount}
	}
	if err := e.checkForm(); err != nil {
		return &problem{status: http.StatusBadRequest, cause: err}
	}
	if p := e.checkAuthority(); p != nil {
		return p
	}
	if h.Instance != "" && looped(r.Header[loopHeader], h.Instance) {
		return &problem{status: http.StatusLoopDetected, cause: errLoop}
	}
	return nil
}

// checkForm looks at what the request is made of. In absolute form, Host is that of the URL already (RFC 9112 §3.2.2).
func (e *exchange) checkForm() error {
	u := e.in.URL
	switch {
	case hasDoubtfulEnd(e.in.RequestURI):
		return errForm
	case u.Opaque != "", u.Path == "*" && e.in.Method != http.MethodOptions: // RFC 9112 §3.2.4
		return errForm
	case u.Scheme != "" && !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https"):
		return errForm
	case u.User != nil:
		return errUser // RFC 9110 §4.2.4
	}
	for part := range strings.SplitSeq(e.in.Header.Get("Upgrade"), " ") {
		if !isPrintable(part) {
			return errUpgrade
		}
	}
	host, err := rules.NormalizeHost(e.in.Host)
	if err != nil {
		return fmt.Errorf("host %q: %w", e.in.Host, err)
	}
	e.host = host
	return nil
}

// hasDoubtfulEnd reports whether servers may take a request target for a shorter one than it is, which other guards hold for:
// neither a space nor a # is part of one (RFC 9112 §3.2). Behind a query's beginning a # does no harm.
func hasDoubtfulEnd(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	return strings.Contains(target, " ") || strings.Contains(path, "#")
}

// checkAuthority holds the request's host against the TLS name, and its scheme against the connection (RFC 9110 §7.4):
// a resumed session skips the gate on certificates, and one host must not be had over another's connection.
func (e *exchange) checkAuthority() *problem {
	state := e.in.TLS
	if scheme := e.in.URL.Scheme; scheme != "" && strings.EqualFold(scheme, "https") != (state != nil) {
		return misdirected("the URL of the request line is of %s, the connection is not", scheme)
	}
	if state == nil {
		return nil
	}
	if state.ServerName == "" {
		if _, err := netip.ParseAddr(e.host); err == nil {
			return nil // addresses are never named in TLS (RFC 6066 §3)
		}
		return misdirected("the host is %q, and TLS named none", e.host)
	}
	if name, err := rules.NormalizeHost(state.ServerName); err != nil || name != e.host {
		return misdirected("the host is %q but the TLS name is %q", e.host, state.ServerName)
	}
	return nil
}

func misdirected(format string, args ...any) *problem {
	return &problem{status: http.StatusMisdirectedRequest, cause: fmt.Errorf(format, args...)}
}

// loopHeader names those who have forwarded a request (RFC 8586). Via would say the same, but servers take it for a
// reason to answer otherwise: nginx and IIS stop compressing.
const loopHeader = "Cdn-Loop"

// looped reports whether our own name is among those who have forwarded a request.
func looped(lines []string, instance string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return slices.ContainsFunc(strings.Split(line, ","), func(entry string) bool {
			name, _, _ := strings.Cut(entry, ";")
			return strings.TrimSpace(name) == instance
		})
	})
}
