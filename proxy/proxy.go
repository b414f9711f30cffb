// Package proxy is the data plane: it decides each request by the rules' current view, forwards it or answers it, and
// says why in one log line. Handler is the reference for how requests and answers are treated.
//
// What the visitor and the target say to each other passes as it is: Host, path and query byte for byte, bodies and
// trailers as they come, both ways at once and without a bound on their size. Three things cannot pass, since net/http
// does not keep them: the spelling of header names (they arrive in canonical form), the order of headers of different
// names, and an answer's reason phrase. Trailers of a request must be announced by its Trailer header. Host, paths, cookies and
// other headers change where the row of the upstream says so, and URLs of answers that name a place which only we can reach: see
// package repair.
package proxy

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"

	"cutover/proxy/metrics"
	"cutover/proxy/repair"
	"cutover/proxy/upstream"
	"cutover/rules"
)

// Views has the rules that are in force. A *store.Store is one, and so is an atomic.Pointer[rules.View].
type Views interface{ Load() *rules.View }

// Handler answers every request that comes to the sockets. Views, Upstreams and Visitors are required; every other
// field may be left zero. Fields must not change once requests are served.
type Handler struct {
	Views     Views
	Upstreams *upstream.Set
	Visitors  *Visitors

	Trusted []netip.Prefix // peers whose X-Forwarded-* headers are believed
	// CertificateReady reports whether a certificate for a host can be served; nil means never.
	CertificateReady func(host string) bool
	// PrepareCertificate asks for a host's certificate in the background, for a client whose address may be invalid; nil does
	// nothing.
	PrepareCertificate func(host string, client netip.Addr)
	// Ending returns, for a request's context, what is closed when a tunnel or an event stream is to end by itself: a
	// WebSocket with Close frames, an event stream after a whole event. That takes at most 4 s. nil means never.
	Ending func(ctx context.Context) <-chan struct{}

	Limits   Limits
	Pages    *Pages // nil means the built-in one
	Access   *AccessLog
	Metrics  *metrics.Metrics
	Log      *slog.Logger // nil discards
	Instance string       // a name of this process, for the loop guard; empty switches it off

	repairs   repair.Plans
	gate      gate
	inFlight  inFlight
	noise     *log.Logger // what ReverseProxy says; the exchange tells the same better
	noiseOnce sync.Once
}

func (h *Handler) log() *slog.Logger {
	if h.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return h.Log
}

// debugLog returns a logger for those who know only the older kind.
func (h *Handler) debugLog() *log.Logger {
	h.noiseOnce.Do(func() { h.noise = slog.NewLogLogger(h.log().Handler(), slog.LevelDebug) })
	return h.noise
}

// ServeHTTP answers a request and logs it. It panics with http.ErrAbortHandler where an answer breaks off half-way, so
// that the client sees that it is not whole.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := h.begin(w, r)
	defer h.end(e)
	defer h.countPanic(e)
	defer h.leave(e)
	if problem := h.serve(e); problem != nil {
		h.answer(e, problem)
	}
	e.finished = true
}

// countPanic counts a fault of ours that ends a request, and lets it go on its way: net/http logs it.
func (h *Handler) countPanic(e *exchange) {
	fault := recover()
	if fault == nil {
		return
	}
	if fault != http.ErrAbortHandler { //nolint:errorlint // compared as net/http does
		h.Metrics.OwnFailure(metrics.Panic)
		e.cause = fmt.Errorf("panic: %v", fault)
	}
	panic(fault)
}

// serve forwards the request or answers it; what it returns is still to be answered.
func (h *Handler) serve(e *exchange) *problem {
	if p := h.refuse(e); p != nil {
		return p
	}
	if p := h.enter(e); p != nil {
		return p
	}
	view := h.Views.Load()
	question := h.question(e.in, e.host, e.client)
	if decision, ok := view.MatchChallenge(question); ok {
		e.decision = decision
		return h.forward(e, view) // whatever guards and redirects say
	}
	if p := h.admit(e, view); p != nil {
		return p
	}
	e.decision = view.Match(question)
	if h.redirectToHTTPS(e, view, question) {
		return nil
	}
	if p := h.askPassword(e); p != nil { // not in clear text where the host asks for https
		e.decision = rules.Decision{Bucket: -1, HTTPS: e.decision.HTTPS, HSTS: e.decision.HSTS}
		return p
	}
	switch e.decision.Action {
	case rules.Moved:
		h.decorate(e.out.Header(), e)
		redirect(e, e.decision.Status, e.decision.Location)
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
	host, _ := rules.NormalizeHost(r.Host) // "" where it is none: then no row matches
	return decide(h.Views.Load(), h.question(r, host, h.clientOf(r)))
}

// decide asks the rules. What a CA asks an ACME client of v1 is above them.
func decide(view *rules.View, r *rules.Request) rules.Decision {
	if decision, ok := view.MatchChallenge(r); ok {
		return decision
	}
	return view.Match(r)
}

// question is what the rules are asked about a request.
func (h *Handler) question(r *http.Request, host string, client netip.Addr) *rules.Request {
	return &rules.Request{
		Method: r.Method, Host: host, Path: pathOf(r), RawQuery: r.URL.RawQuery,
		Header: r.Header, ClientIP: client, Identify: h.Visitors.identify,
	}
}
