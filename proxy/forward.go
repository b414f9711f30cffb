package proxy

import (
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"cutover/proxy/upstream"
	"cutover/rules"
)

var (
	errNoUpstream    = errors.New("the rules name an upstream that does not exist")
	errForeignTunnel = errors.New("the target answered 101 with another protocol than the request asked for")
)

// forward sends the request to its upstream and streams the answer back.
func (h *Handler) forward(e *exchange, view *rules.View) *problem {
	up, ok := view.Upstream(e.decision.Upstream)
	if !ok {
		return &problem{status: http.StatusServiceUnavailable, cause: fmt.Errorf("%w: %q", errNoUpstream, e.decision.Upstream)}
	}
	var failed *problem
	forwarder := httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { h.rewrite(e, r) },
		Transport:      h.Upstreams.For(up),
		ModifyResponse: func(r *http.Response) error { return h.modify(e, r) },
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { failed = failure(err) },
		BufferPool:     copyBuffers{},
		ErrorLog:       log.New(slog.NewLogLogger(h.log().Handler(), slog.LevelDebug).Writer(), "", 0),
	}
	forwarder.ServeHTTP(e.out, e.in.WithContext(upstream.WithChosen(e.in.Context(), &e.target)))
	return failed
}

// rewrite makes the request that the target gets: the visitor's own, byte for byte where that is possible, with
// forwarding headers that can be believed. ReverseProxy has removed hop-by-hop headers before.
func (h *Handler) rewrite(e *exchange, r *httputil.ProxyRequest) {
	r.Out.Host = r.In.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery // ReverseProxy drops parts that it cannot parse; the target may want them
	r.Out.Trailer = r.In.Trailer           // the same map: its values come when the body ends
	dropForwarding(r.Out.Header)
	if strings.EqualFold(r.Out.Header.Get("Upgrade"), "h2c") {
		for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
			r.Out.Header.Del(name)
		}
	}
	h.addForwarding(e, r)
}

// dropForwarding removes what only a proxy may say.
func dropForwarding(header http.Header) {
	for name := range header {
		switch {
		case name == "Forwarded", name == "X-Real-Ip", name == "X-Request-Id",
			strings.HasPrefix(name, "X-Forwarded-"), strings.HasPrefix(name, "X-Cutover-"):
			delete(header, name)
		}
	}
}

// addForwarding says who asks, for what and how. What a trusted proxy before us said is kept.
func (h *Handler) addForwarding(e *exchange, r *httputil.ProxyRequest) {
	out, scheme, host := r.Out.Header, "http", r.In.Host
	if r.In.TLS != nil {
		scheme = "https"
	}
	chain := peerOf(r.In).String()
	if e.trusted {
		scheme = firstOf(r.In.Header.Get("X-Forwarded-Proto"), scheme)
		host = firstOf(r.In.Header.Get("X-Forwarded-Host"), host)
		if hops := r.In.Header["X-Forwarded-For"]; len(hops) > 0 {
			chain = strings.Join(hops, ", ") + ", " + chain
		}
	}
	out.Set("X-Forwarded-For", chain)
	out.Set("X-Forwarded-Proto", scheme)
	out.Set("X-Forwarded-Host", host)
	out.Set("X-Real-Ip", e.client.String())
	out.Set("X-Request-Id", e.id)
	if h.Instance != "" {
		out.Add("Via", fmt.Sprintf("%d.%d %s", r.In.ProtoMajor, r.In.ProtoMinor, h.Instance))
	}
}

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// modify makes the answer ours where it must be.
func (h *Handler) modify(e *exchange, r *http.Response) error {
	e.waited = time.Since(e.began)
	if r.StatusCode == http.StatusSwitchingProtocols {
		if asked := r.Request.Header.Get("Upgrade"); asked == "" || !strings.EqualFold(asked, r.Header.Get("Upgrade")) {
			return errForeignTunnel
		}
		e.out.status = r.StatusCode // it is written past the recorder
	}
	r.Header.Del("Alt-Svc") // the target's own ports are not ours
	h.decorate(r.Header, e)
	return nil
}

// failure turns what went wrong with a target into an answer.
func failure(err error) *problem {
	switch {
	case errors.Is(err, upstream.ErrNoTarget):
		return &problem{status: http.StatusServiceUnavailable, cause: err}
	case upstream.Cause(err) == "canceled":
		return &problem{status: statusClientGone, cause: err}
	case upstream.IsTimeout(err):
		return &problem{status: http.StatusGatewayTimeout, cause: err}
	}
	return &problem{status: http.StatusBadGateway, cause: err}
}

// copyBuffers lends ReverseProxy its buffers.
type copyBuffers struct{}

const copyBufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([copyBufferSize]byte) }} //nolint:gochecknoglobals // a pool is shared by its nature

func (copyBuffers) Get() []byte { return buffers.Get().(*[copyBufferSize]byte)[:] }

func (copyBuffers) Put(b []byte) { buffers.Put((*[copyBufferSize]byte)(b)) }
