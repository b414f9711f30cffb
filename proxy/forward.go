package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"cutover/proxy/upstream"
	"cutover/rules"
)

var (
	errNoUpstream    = errors.New("the rules name an upstream that does not exist")
	errForeignTunnel = errors.New("the target switches to a protocol that the request did not ask for")
	errBadStatus     = errors.New("the target's answer has a status that HTTP does not know")
)

// forward sends the request to its upstream and streams the answer back.
func (h *Handler) forward(e *exchange, view *rules.View) *problem {
	up, ok := view.Upstream(e.decision.Upstream)
	if !ok {
		return &problem{status: http.StatusServiceUnavailable, cause: fmt.Errorf("%w: %q", errNoUpstream, e.decision.Upstream)}
	}
	ctx, cancel := context.WithCancel(upstream.WithOrigin(upstream.WithChosen(e.in.Context(), &e.target), e.origin()))
	defer cancel()
	defer func() { e.parting.stop() }() // of what the answer turns out to be
	var failed *problem
	forwarder := httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { h.rewrite(e, r) },
		Transport:      h.Upstreams.For(up),
		ModifyResponse: func(r *http.Response) error { return h.modify(e, r, cancel) },
		ErrorHandler:   func(_ http.ResponseWriter, r *http.Request, err error) { failed = failure(r.Context(), err) },
		BufferPool:     copyBuffers{},
		ErrorLog:       h.debugLog(),
	}
	h.hurry(e)
	defer func() { e.patience.stop() }()
	in := e.in.WithContext(ctx)
	if e.upload != nil {
		in.Body = e.upload
		e.out.allowDuplex(e.in, e.upload)
	}
	forwarder.ServeHTTP(e.out, in)
	if failed != nil && e.patience.over() {
		failed = &problem{status: http.StatusRequestTimeout, cause: errSlowBody} // net/http has it that the visitor left
	}
	return failed
}

// modify makes the answer ours where it must be.
func (h *Handler) modify(e *exchange, r *http.Response, cancel context.CancelFunc) error {
	e.waited = time.Since(e.began)
	e.patience.stop()
	switch {
	case r.StatusCode < 100:
		return fmt.Errorf("%w: %s", errBadStatus, r.Status) // net/http refuses to write it
	case r.StatusCode == http.StatusSwitchingProtocols:
		if err := h.openTunnel(e, r); err != nil {
			return err
		}
	default:
		r.Body = &download{h.events(e, r, cancel), e}
		if _, typed := r.Header["Content-Type"]; !typed {
			e.out.Header()["Content-Type"] = nil // net/http would guess one
		}
	}
	r.Header.Del("Alt-Svc") // the target's own ports are not ours
	h.decorate(r.Header, e)
	return nil
}

// openTunnel lets a 101 through if it answers what the request asked for (RFC 9110 §7.8).
func (h *Handler) openTunnel(e *exchange, r *http.Response) error {
	asked, got := upgradeOf(r.Request.Header), upgradeOf(r.Header)
	if asked == "" || !strings.EqualFold(asked, got) {
		return fmt.Errorf("%w: asked %q, got %q", errForeignTunnel, asked, got)
	}
	connection, ok := r.Body.(io.ReadWriteCloser)
	if !ok {
		return errForeignTunnel // cannot be: http.Transport gives one with every 101
	}
	e.parting = h.newParting(e)
	e.out.tunnel = newTunnel(connection, got, e.parting)
	r.Body = e.out.tunnel
	e.out.status = r.StatusCode // ReverseProxy writes it past the recorder
	return nil
}

func upgradeOf(header http.Header) string {
	if !httpguts.HeaderValuesContainsToken(header["Connection"], "Upgrade") {
		return ""
	}
	return header.Get("Upgrade")
}

// failure turns what went wrong into an answer.
func failure(ctx context.Context, err error) *problem {
	var visitors *upstream.VisitorError
	switch {
	case ctx.Err() != nil:
		return &problem{status: statusClientGone, cause: fmt.Errorf("the visitor left: %w", err)}
	case errors.As(err, &visitors):
		return &problem{status: statusOfUpload(visitors.Err), cause: err}
	case upstream.StatusFor(err) != 0:
		return &problem{status: upstream.StatusFor(err), cause: err}
	case errors.Is(err, upstream.ErrNoTarget):
		return &problem{status: http.StatusServiceUnavailable, cause: err}
	case upstream.IsTimeout(err):
		return &problem{status: http.StatusGatewayTimeout, cause: err}
	}
	return &problem{status: http.StatusBadGateway, cause: err}
}

// statusOfUpload tells a visitor who left from one who sends nonsense.
func statusOfUpload(err error) int {
	var network net.Error
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network) {
		return statusClientGone
	}
	return http.StatusBadRequest
}

// copyBuffers lends ReverseProxy its buffers.
type copyBuffers struct{}

const copyBufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([copyBufferSize]byte) }} //nolint:gochecknoglobals // a pool is shared by its nature

// Get is of httputil.BufferPool.
func (copyBuffers) Get() []byte { return buffers.Get().(*[copyBufferSize]byte)[:] }

// Put is of httputil.BufferPool.
func (copyBuffers) Put(b []byte) { buffers.Put((*[copyBufferSize]byte)(b)) }
