// Package proxy is the data plane: it decides each request by the rules' current view, forwards it or answers it, and
// says why in one log line. Handler is the reference for how requests and answers are treated.
package proxy

import (
	"log/slog"
	"net/http"
	"net/netip"

	"cutover/proxy/metrics"
	"cutover/proxy/upstream"
	"cutover/rules"
)

// Views has the rules that are in force. A *store.Store is one, and so is an atomic.Pointer[rules.View].
type Views interface{ Load() *rules.View }

// Handler answers every request that comes to the sockets. Views, Upstreams and Visitors are required; every other
// field may be left zero.
type Handler struct {
	Views     Views
	Upstreams *upstream.Set
	Visitors  *Visitors

	Trusted []netip.Prefix // peers whose X-Forwarded-* headers are believed
	// CertificateReady reports whether a certificate for a host can be served; nil means never.
	CertificateReady func(host string) bool
	// PrepareCertificate asks for a host's certificate in the background; nil does nothing.
	PrepareCertificate func(host string)

	Pages    *Pages // nil means the built-in ones
	Access   *AccessLog
	Metrics  *metrics.Metrics
	Log      *slog.Logger // nil discards
	Instance string       // a name of this process, for the loop guard; empty switches it off
}

func (h *Handler) log() *slog.Logger {
	if h.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return h.Log
}

// ServeHTTP answers a request and logs it. It panics with http.ErrAbortHandler where an answer breaks off half-way, so
// that the client sees that it is not whole.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := h.begin(w, r)
	defer h.end(e)
	if problem := h.serve(e); problem != nil {
		h.answer(e, problem)
	}
	e.finished = true
}

// serve forwards the request or answers it; what it returns is still to be answered.
func (h *Handler) serve(e *exchange) *problem {
	if p := h.refuse(e.in); p != nil {
		return p
	}
	e.host, _ = rules.NormalizeHost(e.in.Host) // refuse has looked at it
	view := h.Views.Load()
	e.decision = view.Match(h.question(e.in, e.host, e.client))
	if h.redirectToHTTPS(e) {
		return nil
	}
	switch e.decision.Action {
	case rules.Moved:
		h.decorate(e.out.Header(), e)
		e.out.Header().Set("Location", e.decision.Location)
		e.out.WriteHeader(e.decision.Status)
		return nil
	case rules.Gone:
		return &problem{status: http.StatusGone, cause: errGone}
	case rules.Misdirected:
		return &problem{status: http.StatusMisdirectedRequest, cause: errUnknownHost}
	}
	return h.forward(e, view)
}

// Decide says what a request would meet, as ServeHTTP does. It changes nothing and does not keep r.
func (h *Handler) Decide(r *http.Request) rules.Decision {
	host, _ := rules.NormalizeHost(r.Host)
	return h.Views.Load().Match(h.question(r, host, h.clientOf(r)))
}

func (h *Handler) question(r *http.Request, host string, client netip.Addr) *rules.Request {
	return &rules.Request{
		Method: r.Method, Host: host, Path: r.URL.EscapedPath(), RawQuery: r.URL.RawQuery,
		Header: r.Header, ClientIP: client, Identify: h.Visitors.identify,
	}
}
