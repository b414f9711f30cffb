package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"cutover/rules"
)

// ErrOpen says that an upstream is left alone for a time, since too many of its answers fail; see RetryAfter.
var ErrOpen = errors.New("the circuit breaker is open: too many answers of the upstream fail")

// openError is an ErrOpen that knows when a request may try.
type openError struct{ wait time.Duration }

func (e *openError) Error() string { return ErrOpen.Error() }
func (e *openError) Unwrap() error { return ErrOpen }

// RetryAfter returns how long a visitor need not try again; 0 if nobody can know.
func RetryAfter(err error) time.Duration {
	var open *openError
	if errors.As(err, &open) {
		return open.wait
	}
	return 0
}

// Where the row has none.
const (
	defaultPause    = 10 * time.Second
	defaultRequests = 20
)

// watchedSeconds is how far back a breaker looks.
const watchedSeconds = 10

// breaker opens when too many answers fail: then requests are refused for a pause, and after it one at a time may try. One
// that succeeds closes it. It outlives changes of the row. The zero value is closed.
type breaker struct {
	mu      sync.Mutex
	seconds [watchedSeconds]struct {
		at              int64 // Unix time
		answers, failed int
	}
	opened *opened   // nil while it is closed
	next   time.Time // when it is open: before that nobody may try
}

// opened says since when a breaker is open, and why.
type opened struct {
	since time.Time
	why   string
}

// verdict is what a request has shown of an upstream.
type verdict int

const (
	nothing verdict = iota // it was the visitor who ended it, or it reached no target
	good
	bad
	turned // an answer that was good has broken off
)

// admit reports whether a request is the one that tries while the breaker is open; an error says that it may not be sent.
func (b *breaker) admit(pause time.Duration, now time.Time) (tries bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened == nil {
		return false, nil
	}
	if wait := b.next.Sub(now); wait > 0 {
		return false, &openError{wait}
	}
	b.next = now.Add(pause) // then another may, should this one take so long
	return true, nil
}

// refuses returns why a request would not be admitted. Who asks need not read its body first.
func (b *breaker) refuses(now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.opened == nil || !now.Before(b.next) {
		return nil
	}
	return &openError{b.next.Sub(now)}
}

// note takes what a request has shown. It returns what has begun or ended by it, if anything has.
func (b *breaker) note(v verdict, tries bool, row *rules.Breaker, now time.Time) (began, ended *opened) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.opened == nil && v != nothing:
		return b.count(v, row, now), nil
	case b.opened == nil || !tries: // what was sent before it opened says nothing new
		return nil, nil
	case v == good:
		ended = b.opened
		b.opened = nil
		clear(b.seconds[:])
		return nil, ended
	case v == bad:
		b.next = now.Add(pauseOf(row))
	default:
		b.next = now
	}
	return nil, nil
}

// count needs the lock.
func (b *breaker) count(v verdict, row *rules.Breaker, now time.Time) *opened {
	at := now.Unix()
	second := &b.seconds[at%watchedSeconds]
	if second.at != at {
		second.at, second.answers, second.failed = at, 0, 0
	}
	if v != turned {
		second.answers++
	}
	if v == good {
		return nil
	}
	second.failed++
	answers, failed := b.sum(at)
	if answers < requestsOf(row) || float64(failed) < row.Percent/100*float64(answers) {
		return nil
	}
	b.opened = &opened{now, fmt.Sprintf("%d of %d answers in %d s have failed", failed, answers, watchedSeconds)}
	b.next = now.Add(pauseOf(row))
	return b.opened
}

func (b *breaker) sum(at int64) (answers, failed int) {
	for _, second := range b.seconds {
		if at-second.at < watchedSeconds {
			answers += second.answers
			failed += second.failed
		}
	}
	return answers, failed
}

func (b *breaker) state() *opened {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened
}

func pauseOf(row *rules.Breaker) time.Duration {
	if row.Pause <= 0 {
		return defaultPause
	}
	return rules.Seconds(row.Pause)
}

func requestsOf(row *rules.Breaker) int {
	if row.Requests <= 0 {
		return defaultRequests
	}
	return row.Requests
}

// guarded is send behind the breaker.
func (p *Pool) guarded(r *http.Request) (*http.Response, error) {
	row := &p.upstream.Breaker
	tries, err := p.breaker.admit(pauseOf(row), time.Now())
	if err != nil {
		return nil, err
	}
	v := nothing
	defer func() { p.tell(p.breaker.note(v, tries, row, time.Now())) }()
	response, err := p.send(r)
	v = verdictOn(r, response, err)
	return response, err
}

func verdictOn(r *http.Request, response *http.Response, err error) verdict {
	switch {
	case err == nil && isOwn(response):
		return nothing
	case err == nil && response.StatusCode < http.StatusInternalServerError:
		return good
	case err == nil:
		return bad
	case r.Context().Err() != nil, isVisitors(err), errors.Is(err, context.Canceled):
		return nothing
	case errors.Is(err, ErrNoTarget), errors.Is(err, ErrFull), errors.Is(err, ErrQueueTimeout), errors.Is(err, errUnfit):
		return nothing
	case isUpgrade(r) && !errors.Is(err, ErrUnreachable):
		return nothing // see failed
	}
	return bad
}

// turned notes that an answer has broken off after its header, which came at a time, said that all is well.
func (p *Pool) turned(r *http.Request, response *http.Response, err error, headed time.Time) {
	row := &p.upstream.Breaker
	if row.Percent <= 0 || verdictOn(r, response, nil) != good || verdictOn(r, nil, err) != bad {
		return
	}
	v, now := turned, time.Now()
	if now.Unix()-headed.Unix() >= watchedSeconds {
		v = bad // as a good one it is counted no more
	}
	p.tell(p.breaker.note(v, false, row, now))
}

// tell tells those who want to know; began and ended may be nil.
func (p *Pool) tell(began, ended *opened) {
	name := slog.String("upstream", p.upstream.Name)
	if began != nil {
		p.set.options.log().Warn("the circuit breaker of an upstream opens: its visitors get 503 until a request succeeds", name,
			slog.String("because", began.why), slog.Duration("pause", pauseOf(&p.upstream.Breaker)))
	}
	if ended != nil {
		p.set.options.log().Info("the circuit breaker of an upstream closes", name, slog.Duration("open_for", time.Since(ended.since).Round(time.Millisecond)))
	}
}
