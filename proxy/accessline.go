package proxy

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"
)

// wants reports whether a request gets a line. What failed always does.
func (a *AccessLog) wants(status int) bool {
	o := a.options
	return !o.Off && (o.Sample <= 0 || o.Sample >= 1 || status >= 500 || rand.Float64() < o.Sample)
}

// write adds an exchange's line. The query is left out: it may hold what is nobody's business.
func (a *AccessLog) write(e *exchange, status int, took time.Duration) {
	if !a.wants(status) {
		return
	}
	in, out := e.traffic()
	attrs := make([]slog.Attr, 0, 24)
	attrs = append(attrs,
		slog.String("request_id", e.id), slog.String("client", addressText(e.client)), slog.String("method", e.in.Method),
		slog.String("host", e.in.Host), slog.String("path", e.in.URL.EscapedPath()), slog.String("proto", e.in.Proto),
		slog.Bool("tls", e.in.TLS != nil), slog.Int("status", status), slog.Int64("bytes_in", in), slog.Int64("bytes_out", out),
		slog.Float64("seconds", took.Seconds()),
	)
	attrs = appendDecision(attrs, e)
	if e.cause != nil {
		attrs = append(attrs, slog.String("error", e.cause.Error()))
	}
	a.lines.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}

func addressText(address netip.Addr) string {
	if !address.IsValid() {
		return ""
	}
	return address.String()
}

// appendDecision adds why the request went where it went; all but the reason is there for some requests only.
func appendDecision(attrs []slog.Attr, e *exchange) []slog.Attr {
	d := &e.decision
	if e.guard != nil {
		attrs = append(attrs, slog.Int64("guard", e.guard.ID))
	}
	if e.refused != "" {
		attrs = append(attrs, slog.String("refused", e.refused))
	}
	if d.Reason != "" {
		attrs = append(attrs, slog.String("reason", string(d.Reason)))
	}
	if d.RuleID != 0 {
		attrs = append(attrs, slog.Int64("rule", d.RuleID))
	}
	if d.RedirectID != 0 {
		attrs = append(attrs, slog.Int64("redirect", d.RedirectID))
	}
	if d.Split() {
		attrs = append(attrs, slog.Int("bucket", d.Bucket))
	}
	if d.Upstream != "" {
		attrs = append(attrs, slog.String("version", d.Version), slog.String("upstream", d.Upstream))
	}
	if e.target != "" {
		attrs = append(attrs, slog.String("target", e.target))
	}
	if e.waited > 0 {
		attrs = append(attrs, slog.Float64("upstream_seconds", e.waited.Seconds()))
	}
	return attrs
}
