package proxy

import (
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"cutover/rules"
)

// statusClientGone is logged where the visitor left before there was an answer. It is never sent.
const statusClientGone = 499

// retryAfter is what a visitor is told to wait, in seconds, where waiting may help.
const retryAfter = 5

// problem is an answer that is not the upstream's: what the visitor gets, and what the operator must know.
type problem struct {
	status     int
	cause      error  // for the log alone: it may name targets
	retryAfter int    // seconds; 0 for what the status says
	challenge  string // WWW-Authenticate
}

// answer tells the visitor what went wrong, without its cause, and the operator why. This is the one place that does.
// Where the answer has begun, or nobody listens, it panics with http.ErrAbortHandler.
func (h *Handler) answer(e *exchange, p *problem) {
	e.cause = p.cause
	h.logProblem(e, p)
	h.countRefused(e, p)
	if e.out.status != 0 || p.status == statusClientGone {
		if e.out.status == 0 {
			e.out.status = p.status
		}
		panic(http.ErrAbortHandler)
	}
	header := e.out.Header()
	delete(header, "Content-Type") // what an answer that was refused may have left
	h.decorate(header, e)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	page := Page{Status: p.status, Title: http.StatusText(p.status), RequestID: e.id}
	if p.status >= 500 && p.status != http.StatusLoopDetected {
		page.RetryAfter = retryAfter
	}
	if p.retryAfter > 0 {
		page.RetryAfter = p.retryAfter
	}
	if page.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(page.RetryAfter))
	}
	if p.challenge != "" {
		header.Set("WWW-Authenticate", p.challenge)
	}
	if p.status == http.StatusMethodNotAllowed {
		header.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
		if e.in.ProtoMajor == 1 {
			header.Set("Connection", "close") // what follows a CONNECT may have been meant for a tunnel
		}
	}
	if isGRPC(e.in) {
		h.answerGRPC(e, p.status)
		return
	}
	kind, body := h.Pages.render(page, e.host, e.in.Header["Accept"])
	h.countAnswer(e, p.status)
	header.Set("Content-Type", kind)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	e.out.WriteHeader(p.status)
	if e.in.Method != http.MethodHead {
		_, _ = e.out.Write(body) // the visitor may have left
	}
}

// countAnswer counts what Cutover itself answers; what this process asks itself is nobody's.
func (h *Handler) countAnswer(e *exchange, status int) {
	if e.in.RemoteAddr != ourselves {
		h.Metrics.Event("answer", strconv.Itoa(status))
	}
}

// logProblem tells the operator. What a visitor causes is of interest to few.
func (h *Handler) logProblem(e *exchange, p *problem) {
	level := slog.LevelDebug
	if p.status >= 500 {
		level = slog.LevelWarn
	}
	h.log().LogAttrs(e.in.Context(), level, "a request was not served", slog.Int("status", p.status), slog.Any("error", p.cause),
		slog.String("request_id", e.id), slog.String("host", e.in.Host), slog.String("upstream", e.decision.Upstream), slog.String("target", e.target))
}

// decorate sets what the decision asks for on an answer, whoever gives it.
func (h *Handler) decorate(header http.Header, e *exchange) {
	header.Set("X-Request-Id", e.id)
	d := &e.decision
	if d.Split() && d.Sticky == rules.StickyCookie && !d.Visitor.Returned {
		header.Add("Set-Cookie", h.Visitors.cookie(e.host, d.Visitor, e.secure).String())
	}
	if d.VaryCookie && !varies(header["Vary"], "Cookie") {
		header.Add("Vary", "Cookie")
	}
	if d.HSTS > 0 && e.secure && header.Get("Strict-Transport-Security") == "" {
		header.Set("Strict-Transport-Security", "max-age="+strconv.FormatInt(d.HSTS, 10))
	}
}

// varies reports whether a Vary header names a field, or all.
func varies(lines []string, name string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return slices.ContainsFunc(strings.Split(line, ","), func(field string) bool {
			field = strings.TrimSpace(field)
			return field == "*" || strings.EqualFold(field, name)
		})
	})
}
