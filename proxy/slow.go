package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Reasons for which the handler refuses a request.
const (
	headerCount = "header_count" // too many fields; the visitor gets 431
	slowBody    = "slow_body"    // the body comes too slowly; the visitor gets 408
)

// Limits are for visitors that are slow, or send or ask too much. Zero fields mean no limit.
type Limits struct {
	// NetworkRequests may be under way at one time for one client network: an IPv4 address or an IPv6 /64. Tunnels and event
	// streams are, as long as they last.
	NetworkRequests int
	// Exempt reports whether an address is bound by no number of requests, as one that speaks for many; nil means none is.
	Exempt func(netip.Addr) bool
	// OnRefused is told what a limit refuses, and to whom, instead of the Handler's Metrics; client may be nil. May be nil.
	OnRefused func(reason string, client net.Addr)

	Headers  int           // fields of a request's head
	BodyRate int           // bytes a second that a request's body must come at, on average
	Grace    time.Duration // what the visitor may take beyond that
	// Stall is how long the visitor may send nothing at all, whatever came before; 0 means no matter.
	Stall time.Duration
}

var (
	errHeaderCount = errors.New("the request has too many header fields")
	errSlowBody    = errors.New("the visitor sends the request's body too slowly")
)

// patience is for a visitor who sends a body. It runs out while he is waited for, and only then: a target that takes the
// body slowly costs him nothing. What he sends gives some of it back.
type patience struct {
	limits Limits
	expire func() // ends a Read that waits for him

	mu      sync.Mutex
	left    time.Duration
	since   time.Time // he is waited for; zero while he is not
	timer   *time.Timer
	stopped bool
	expired bool
}

func newPatience(l Limits, expire func()) *patience {
	return &patience{limits: l, left: l.Grace, expire: expire}
}

// wait is for when a Read begins.
func (p *patience) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Now()
	if p.timer == nil && !p.stopped {
		p.timer = time.AfterFunc(p.left, p.look)
	}
}

// got is for when a Read has ended, with n bytes.
func (p *patience) got(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	earned := time.Duration(n) * time.Second / time.Duration(p.limits.BodyRate)
	p.left += earned - time.Since(p.since)
	if p.limits.Stall > 0 {
		p.left = min(p.left, p.limits.Stall)
	}
	p.since = time.Time{}
}

// look is the timer's: it ends the wait, or comes again when it may have to.
func (p *patience) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := p.left
	if !p.since.IsZero() {
		left -= time.Since(p.since)
	}
	if p.stopped {
		return
	}
	if left > 0 || p.since.IsZero() {
		p.timer.Reset(max(left, minLook))
		return
	}
	p.expired = true
	p.expire()
}

// minLook is how soon look comes again at the earliest.
const minLook = 100 * time.Millisecond

// stop is for when the body has ended, or the visitor need not hurry any more. Nothing expires from then on.
func (p *patience) stop() {
	if p == nil {
		return // there is no body
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

// over reports whether it has run out.
func (p *patience) over() bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.expired
}

// patient is a body whose visitor has to hurry.
type patient struct {
	io.ReadCloser
	patience *patience
}

func (b *patient) Read(p []byte) (int, error) {
	b.patience.wait()
	n, err := b.ReadCloser.Read(p)
	b.patience.got(n)
	if err != nil {
		b.patience.stop()
	}
	return n, err
}

// hurry has the visitor send his body in time, until the answer begins: then both may go on for as long as they like. The
// caller stops the patience.
func (h *Handler) hurry(e *exchange) {
	if e.upload == nil || h.Limits.BodyRate <= 0 {
		return
	}
	e.patience = newPatience(h.Limits, func() {
		_ = http.NewResponseController(e.out).SetReadDeadline(time.Now().Add(-time.Second)) // he may have left
	})
	e.upload.ReadCloser = &patient{e.upload.ReadCloser, e.patience}
}

// countRefused counts an answer that a limit has called for.
func (h *Handler) countRefused(e *exchange, p *problem) {
	reason := ""
	switch {
	case errors.Is(p.cause, errHeaderCount):
		reason = headerCount
	case errors.Is(p.cause, errSlowBody):
		reason = slowBody
	case errors.Is(p.cause, errRequests):
		reason = networkRequests
	default:
		return
	}
	if h.Limits.OnRefused != nil {
		h.Limits.OnRefused(reason, e.clientAddr())
		return
	}
	h.Metrics.Refused(reason)
}

// countHeaders returns how many fields a request's head has.
func countHeaders(header http.Header) (count int) {
	for _, values := range header {
		count += len(values)
	}
	return count
}
