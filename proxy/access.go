package proxy

import (
	"bytes"
	"context"
	"io"
	"log/slog"
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
// buffered; Run writes them. Use NewAccessLog.
type AccessLog struct {
	options AccessOptions
	lines   *slog.Logger
	writer  io.Writer

	mu      sync.Mutex
	pending bytes.Buffer
	lost    int           // lines, since the last flush
	full    chan struct{} // holds one: there is much to write
}

// NewAccessLog returns a log whose lines go to w once Run runs.
func NewAccessLog(w io.Writer, o AccessOptions) *AccessLog {
	a := &AccessLog{options: o, writer: w, full: make(chan struct{}, 1)}
	a.lines = slog.New(a.handler(lineBuffer{a}))
	a.pending.Grow(accessBuffer)
	return a
}

func (a *AccessLog) handler(w io.Writer) slog.Handler {
	if a.options.Text {
		return slog.NewTextHandler(w, nil)
	}
	return slog.NewJSONHandler(w, nil)
}

// Run writes lines every 100 ms until ctx ends, then those that are left. It returns nil.
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
	lost := a.lost
	a.lost = 0
	a.mu.Unlock()
	if lost > 0 {
		slog.New(a.handler(spare)).Warn("access lines were lost: they are not read fast enough", slog.Int("lines", lost))
	}
	if spare.Len() == 0 {
		return
	}
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
		a.lost++
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
