package frontend

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"sync"
	"time"
)

// newErrorLog returns what net/http reports on: mostly the mistakes of clients, as many as clients like.
func newErrorLog(to *slog.Logger) *log.Logger {
	return log.New(&sampler{log: to}, "", 0)
}

// linesASecond is what passes of net/http's reports.
const linesASecond = 10

// sampler passes a few lines a second on, at debug level, with the number of those it left out.
type sampler struct {
	log *slog.Logger

	mu      sync.Mutex
	began   time.Time // the current second
	passed  int       // in it
	omitted int       // since the last line that passed
}

// Write takes one line, as log.Logger writes them.
func (s *sampler) Write(line []byte) (int, error) {
	ctx := context.Background()
	if !s.log.Enabled(ctx, slog.LevelDebug) {
		return len(line), nil
	}
	if omitted, pass := s.pass(time.Now()); pass {
		s.log.LogAttrs(ctx, slog.LevelDebug, string(bytes.TrimSpace(line)), slog.Int("omitted", omitted))
	}
	return len(line), nil
}

func (s *sampler) pass(now time.Time) (omitted int, pass bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.began) >= time.Second {
		s.began, s.passed = now, 0
	}
	if s.passed >= linesASecond {
		s.omitted++
		return 0, false
	}
	s.passed++
	omitted, s.omitted = s.omitted, 0
	return omitted, true
}
