package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cutover/rules"
)

var errIdle = fmt.Errorf("nothing has moved for idle_timeout: %w", os.ErrDeadlineExceeded)

// idle ends an attempt when the target sends nothing of the answer's body, or takes nothing of the request's, for too long. Time
// in which the visitor is waited for does not count. A nil one never ends anything.
type idle struct {
	limit    time.Duration // 0 for none: then others end it
	cancel   context.CancelCauseFunc
	expired  atomic.Bool
	up, down *time.Timer // of what is waited for; each is one goroutine's at a time
	taking   taking
}

// withIdle returns the context of an attempt, which over ends. The idle is nil if nobody may want to end the attempt.
func (p *Pool) withIdle(ctx context.Context, mayMove bool) (context.Context, *idle) {
	limit := max(0, rules.Seconds(p.upstream.Timeouts.Idle))
	if limit == 0 && !mayMove {
		return ctx, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	i := &idle{limit: limit, cancel: cancel}
	if limit > 0 {
		i.up, i.down = i.newTimer(i.steps(), i.lookAtUpload), i.newTimer(limit, i.expire)
	}
	return ctx, i
}

// watches reports whether anything is ended when nothing moves.
func (i *idle) watches() bool { return i != nil && i.limit > 0 }

// newTimer returns one that stands still.
func (*idle) newTimer(limit time.Duration, end func()) *time.Timer {
	t := time.AfterFunc(limit, end)
	t.Stop()
	return t
}

func (i *idle) expire() {
	i.expired.Store(true)
	i.cancel(errIdle)
}

// over is for when the attempt is.
func (i *idle) over() {
	if i == nil {
		return
	}
	if i.watches() {
		i.rest()
		i.down.Stop()
	}
	i.cancel(nil)
}

// explain says that it was this that ended the attempt, if it was.
func (i *idle) explain(err error) error {
	if i != nil && i.expired.Load() {
		return errIdle
	}
	return err
}

// upload watches how a target takes a request's body: each Read but the first says that it has taken what came before, and its
// machine says what it has taken of that.
func (i *idle) upload(body io.ReadCloser) io.ReadCloser {
	if !i.watches() {
		return body
	}
	return &idleUpload{ReadCloser: body, idle: i}
}

// idleUpload leaves the clock alone once it is closed, though a Read may still be under way: the clock is the next one's then.
type idleUpload struct {
	io.ReadCloser
	idle *idle

	mu     sync.Mutex
	closed bool
}

func (u *idleUpload) Read(p []byte) (int, error) {
	u.wait(false)
	n, err := u.ReadCloser.Read(p)
	if err == nil {
		u.wait(true)
	}
	return n, err
}

// wait is for when the target is waited for, or no longer.
func (u *idleUpload) wait(begins bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.closed:
	case begins:
		u.idle.begin()
	default:
		u.idle.rest()
	}
}

// again is that of the body which is watched.
func (u *idleUpload) again() (io.ReadCloser, error) {
	fresh, err := again(u.ReadCloser)()
	return u.idle.upload(fresh), err
}

func (u *idleUpload) Close() error {
	u.mu.Lock()
	if !u.closed {
		u.closed = true
		u.idle.rest()
	}
	u.mu.Unlock()
	return u.ReadCloser.Close()
}

// download watches how a target sends an answer's body. Streams of events may rest for as long as they like.
func (i *idle) download(response *http.Response) io.ReadCloser {
	if !i.watches() || IsEventStream(response.Header) {
		return response.Body
	}
	return &idleDownload{response.Body, i}
}

type idleDownload struct {
	io.ReadCloser
	idle *idle
}

func (d *idleDownload) Read(p []byte) (int, error) {
	d.idle.down.Reset(d.idle.limit)
	n, err := d.ReadCloser.Read(p)
	d.idle.down.Stop()
	return n, err
}

// IsEventStream reports whether an answer's body is a stream of events (HTML §9.2).
func IsEventStream(header http.Header) bool {
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}
