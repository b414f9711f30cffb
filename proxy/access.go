package proxy

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// AccessOptions says which requests get a line, and how it looks.
type AccessOptions struct {
	Off    bool
	Text   bool    // key=value instead of JSON
	Sample float64 // share of the requests that get a line, 0 meaning all; those answered with 5xx always do
}

const (
	flushEvery   = 100 * time.Millisecond
	flushAt      = 64 << 10 // bytes
	abandonAt    = 4 << 20  // bytes: whoever reads the lines has stopped; losing some beats losing the service
	accessBuffer = flushAt + 4<<10
)

// AccessLog writes one line a request: what was asked, what was answered, and why it went where it went. Lines are
// buffered; Run writes them.
type AccessLog struct {
	options AccessOptions
	lines   *slog.Logger
	writer  io.Writer

	mu      sync.Mutex
	pending bytes.Buffer
	full    chan struct{} // holds one: there is much to write
}

// NewAccessLog returns a log whose lines go to w once Run runs.
func NewAccessLog(w io.Writer, o AccessOptions) *AccessLog {
	a := &AccessLog{options: o, writer: w, full: make(chan struct{}, 1)}
	var handler slog.Handler = slog.NewJSONHandler(lineBuffer{a}, nil)
	if o.Text {
		handler = slog.NewTextHandler(lineBuffer{a}, nil)
	}
	a.lines = slog.New(handler)
	a.pending.Grow(accessBuffer)
	return a
}

// Run writes lines until ctx ends, then those that are left.
func (a *AccessLog) Run(ctx context.Context) error {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	spare := &bytes.Buffer{}
	for {
		select {
		case <-ctx.Done():
			a.flush(spare)
			return nil
		case <-ticker.C:
		case <-a.full:
		}
		a.flush(spare)
	}
}

// flush writes outside the lock, so that a slow reader of the lines does not hold requests up.
func (a *AccessLog) flush(spare *bytes.Buffer) {
	a.mu.Lock()
	*spare, a.pending = a.pending, *spare
	a.mu.Unlock()
	_, _ = a.writer.Write(spare.Bytes()) // there is nowhere else to say that the log cannot be written
	spare.Reset()
}

// lineBuffer is where slog's handler writes each line.
type lineBuffer struct{ log *AccessLog }

func (b lineBuffer) Write(line []byte) (int, error) {
	a := b.log
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pending.Len() > abandonAt {
		return len(line), nil
	}
	a.pending.Write(line)
	if a.pending.Len() >= flushAt {
		select {
		case a.full <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

func (a *AccessLog) wants(status int) bool {
	return !a.options.Off && (a.options.Sample == 0 || a.options.Sample >= 1 || status >= 500 || rand.Float64() < a.options.Sample)
}

// write adds an exchange's line. The query is left out: it may hold what is nobody's business.
func (a *AccessLog) write(e *exchange, status int, took time.Duration) {
	if !a.wants(status) {
		return
	}
	d := &e.decision
	attrs := make([]slog.Attr, 0, 24)
	attrs = append(attrs,
		slog.String("request_id", e.id), slog.String("client", e.client.String()), slog.String("method", e.in.Method),
		slog.String("host", e.in.Host), slog.String("path", e.in.URL.EscapedPath()), slog.String("proto", e.in.Proto),
		slog.Bool("tls", e.in.TLS != nil), slog.Int("status", status), slog.Int64("bytes", e.out.bytes),
		slog.Float64("seconds", took.Seconds()), slog.String("reason", string(d.Reason)),
	)
	attrs = appendDecision(attrs, e)
	if e.cause != nil {
		attrs = append(attrs, slog.String("error", e.cause.Error()))
	}
	a.lines.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}

// appendDecision adds what is only there for some requests.
func appendDecision(attrs []slog.Attr, e *exchange) []slog.Attr {
	d := &e.decision
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
		attrs = append(attrs, slog.String("version", d.Version), slog.String("upstream", d.Upstream), slog.String("target", e.target),
			slog.Float64("upstream_seconds", e.waited.Seconds()))
	}
	return attrs
}
