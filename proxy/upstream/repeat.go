package upstream

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"syscall"
)

// goesOn reports whether a request that a target did not answer is to be sent to another.
func (p *Pool) goesOn(r *http.Request, f fate, err error, attempts int, body *keptBody) bool {
	switch {
	case r.Context().Err() != nil, f == unfit, attempts > p.upstream.Retries:
		return false
	case f == unsent, errors.Is(err, errMoved): // who was moved has paid
		return true
	}
	may := isIdempotent(r.Method) && !isUpgrade(r) && hasBroken(err) && attempts < len(p.targets)
	return may && body.recall() && p.repeats.spend()
}

// hasBroken reports whether a connection has come to its end. Too late an answer is none: who waited for so long need not wait as
// long again. But one whose other side acknowledges nothing (see vanished) is broken, though the kernel calls that a timeout.
func hasBroken(err error) bool { return Cause(err) == "broken" || errors.Is(err, syscall.ETIMEDOUT) }

// isIdempotent reports whether a request may be acted upon twice (RFC 9110 §9.2.2).
func isIdempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// keptBody is a request's body, whose begin is kept as it is read: so each attempt can have it from there. A transport may go
// on reading for an attempt that has failed; what it takes is kept as well.
type keptBody struct {
	source io.ReadCloser // stays open
	most   int           // bytes that are kept, below 0 for none; once more was read the body is lost for other attempts

	reading sync.Mutex // for as long as the visitor is waited for; holds what follows
	kept    []byte
	ended   error // what the source has ended with

	mu     sync.Mutex // never held for long; holds what follows
	reader *keptReader
	lost   bool
}

// keep returns a request's body; nil if it has none.
func (p *Pool) keep(r *http.Request) *keptBody {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	k := &keptBody{source: r.Body, most: -1}
	if isIdempotent(r.Method) && len(p.targets) > 1 && p.upstream.Retries > 0 && p.upstream.RetryBody > 0 {
		k.most = p.upstream.RetryBody
	}
	return k
}

// open returns the body from its begin. The reader before gets nothing more that was not kept.
func (k *keptBody) open() *keptReader {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &keptReader{of: k, lost: k.lost}
	k.reader = r
	return r
}

// recall ends the reader before, and reports whether another can have all of the body. There may be none at all.
func (k *keptBody) recall() bool {
	if k == nil {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reader = nil
	return !k.lost
}

// isKept reports whether recall would.
func (k *keptBody) isKept() bool {
	if k == nil {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.lost
}

// again returns the body from its begin, for a request that was not acted upon.
func (k *keptBody) again() (io.ReadCloser, error) {
	if !k.recall() {
		return nil, errLost
	}
	return k.open(), nil
}

var (
	errLost      = errors.New("more of the body was read than is kept")
	errOvertaken = errors.New("another attempt reads the body")
)

// claim returns how many bytes a reader may read on, all of which will be kept; 0 for as many as it likes, of which none will.
// It needs the lock reading.
func (k *keptBody) claim(r *keptReader) (atMost int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch atMost = k.most + 1 - len(k.kept); { // one more, since the end may be what comes
	case r.lost:
		return 0, errLost
	case r != k.reader:
		return 0, errOvertaken
	case k.lost || atMost <= 0:
		k.lost = true
		return 0, nil
	}
	return atMost, nil
}

// keptReader is the body for one attempt. It tells the visitor's failures from the target's, and Close leaves it open.
type keptReader struct {
	of   *keptBody
	at   int // of what is kept
	lost bool
}

// Close leaves it open.
func (*keptReader) Close() error { return nil }

func (r *keptReader) Read(p []byte) (int, error) {
	k := r.of
	k.reading.Lock()
	defer k.reading.Unlock()
	if r.at < len(k.kept) {
		n := copy(p, k.kept[r.at:])
		r.at += n
		return n, nil
	}
	atMost, err := k.claim(r)
	if err == nil {
		err = k.ended
	}
	if err != nil || len(p) == 0 {
		return 0, err
	}
	if atMost == 0 {
		k.kept, r.at = nil, 0
		return k.read(p)
	}
	n, err := k.read(p[:min(len(p), atMost)])
	k.kept = append(k.kept, p[:n]...)
	r.at += n
	return n, err
}

// read is the visitor's part of Read.
func (k *keptBody) read(p []byte) (int, error) {
	n, err := k.source.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &VisitorError{err}
	}
	k.ended = err
	return n, err
}
