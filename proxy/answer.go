package proxy

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
)

// statusClientGone is logged where the visitor left before there was an answer. It is never sent.
const statusClientGone = 499

// retryAfter is what a visitor is told to wait, in seconds, where waiting may help.
const retryAfter = 5

// problem is an answer that is not the upstream's: what the visitor gets, and what the operator must know.
type problem struct {
	status int
	cause  error // for the log alone: it may name targets
}

// answer tells the visitor what went wrong, without its cause, and the operator why. This is the one place that does.
func (h *Handler) answer(e *exchange, p *problem) {
	e.cause = p.cause
	h.logProblem(e, p)
	if e.out.status != 0 || p.status == statusClientGone {
		if e.out.status == 0 {
			e.out.status = p.status
		}
		panic(http.ErrAbortHandler) // half an answer must not look whole, and nobody listens to the other
	}
	header := e.out.Header()
	h.decorate(header, e)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	page := Page{Status: p.status, Title: http.StatusText(p.status), RequestID: e.id}
	if p.status >= 500 && p.status != http.StatusLoopDetected {
		page.RetryAfter = retryAfter
		header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	if p.status == http.StatusMethodNotAllowed {
		header.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	kind, body := h.Pages.render(page, e.in.Header.Get("Accept"))
	header.Set("Content-Type", kind)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	e.out.WriteHeader(p.status)
	if e.in.Method != http.MethodHead {
		_, _ = e.out.Write(body) // the visitor may have left
	}
}

func (h *Handler) logProblem(e *exchange, p *problem) {
	level := slog.LevelDebug
	if p.status >= 500 {
		level = slog.LevelWarn
	}
	h.log().LogAttrs(e.in.Context(), level, "a request was not served", slog.Int("status", p.status), slog.Any("error", p.cause),
		slog.String("request_id", e.id), slog.String("host", e.in.Host), slog.String("upstream", e.decision.Upstream), slog.String("target", e.target))
}

// render returns a page in the form that the visitor asked for.
func (p *Pages) render(page Page, accept string) (kind string, body []byte) {
	switch {
	case strings.Contains(accept, "text/html"):
		return "text/html; charset=utf-8", p.html(page)
	case strings.Contains(accept, "application/json"):
		body, _ = json.Marshal(page) // numbers and strings can always be written
		return "application/json", append(body, '\n')
	}
	return "text/plain; charset=utf-8", []byte(strconv.Itoa(page.Status) + " " + page.Title + "\nRequest " + page.RequestID + "\n")
}
