package proxy

import (
	"log/slog"
	"net/http"
)

// warnOfLoop names the target that leads back to this proxy: who answers 508 in the end knows only that the request has come back.
func (h *Handler) warnOfLoop(e *exchange, r *http.Response) {
	if r.StatusCode != http.StatusLoopDetected {
		return
	}
	h.log().LogAttrs(e.in.Context(), slog.LevelWarn, "a target answers that the request goes round in a loop: it may lead back to this proxy",
		slog.String("upstream", e.decision.Upstream), slog.String("target", e.target), slog.String("request_id", e.id), slog.String("host", e.in.Host))
}
