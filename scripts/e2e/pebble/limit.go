package pebble

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// OrderStats counts what came to a CA that limits orders.
type OrderStats struct {
	Orders   int // that were made
	Refused  int // beyond the limit
	Most     int // that were made within one window
	Replaces int // that said which certificate they replace
}

// limiter refuses orders beyond a limit as Let's Encrypt does; Pebble itself has no limits.
type limiter struct {
	orders int // 0: no limit
	window time.Duration

	mu    sync.Mutex
	made  []time.Time
	stats OrderStats
}

// take notes an order, and returns when the next may be made if this one may not.
func (l *limiter) take(now time.Time) (after time.Time, refused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	within := 0
	for i := len(l.made) - 1; i >= 0 && now.Sub(l.made[i]) < l.window; i-- {
		within++
	}
	if l.orders > 0 && within >= l.orders {
		l.stats.Refused++
		return l.made[len(l.made)-l.orders].Add(l.window), true
	}
	l.made = append(l.made, now)
	l.stats.Orders++
	l.stats.Most = max(l.stats.Most, within+1)
	return time.Time{}, false
}

// serve lets an order through, or answers that it is one too many.
func (l *limiter) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if after, refused := l.take(time.Now()); refused {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:rateLimited","status":429,"detail":"too many new orders (%d) from this account in the last %v, retry after %s"}`,
			l.orders, l.window, after.UTC().Format("2006-01-02 15:04:05 MST"))
		return
	}
	if replaces(body) {
		l.mu.Lock()
		l.stats.Replaces++
		l.mu.Unlock()
	}
	next.ServeHTTP(w, r)
}

// replaces reports whether an order says which certificate it replaces (RFC 9773 §5).
func replaces(body []byte) bool {
	var envelope struct {
		Payload string `json:"payload"`
	}
	var order struct {
		Replaces string `json:"replaces"`
	}
	if json.Unmarshal(body, &envelope) != nil {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(envelope.Payload)
	return err == nil && json.Unmarshal(payload, &order) == nil && order.Replaces != ""
}

// Stats counts what was ordered.
func (s *Server) Stats() OrderStats {
	s.limit.mu.Lock()
	defer s.limit.mu.Unlock()
	return s.limit.stats
}
