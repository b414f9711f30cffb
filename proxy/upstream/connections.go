package upstream

import (
	"net"
	"net/http"
	"time"

	"cutover/rules"
)

const (
	// A server may close a connection that idles at the very moment when a request is on its way. A request that may
	// be repeated is then sent again by net/http; one that may not be (RFC 9110 §9.2.2) fails, and nobody can know
	// whether it was acted upon. So the two kinds of request use connections of their own, and those for the second
	// kind are given up before any server in use does so: they wait for 2 s (gunicorn), 5 s (Node.js, Apache) or longer.
	idleRepeatable   = 55 * time.Second
	idleUnrepeatable = time.Second

	idleConnections = 256 // to each target
)

// connections keeps the connections to an upstream's targets. They speak HTTP/1.1: it carries WebSocket, and hands
// trailers and early answers through as they are. HTTP_PROXY is ignored, and bodies stay compressed or not as the
// target sent them.
type connections struct {
	repeatable, unrepeatable *http.Transport
}

func newConnections(u *rules.Upstream, o Options) *connections {
	timeout := time.Duration(u.ResponseTimeout * float64(time.Second))
	return &connections{
		repeatable:   newTransport(o, timeout, idleRepeatable),
		unrepeatable: newTransport(o, timeout, idleUnrepeatable),
	}
}

// newTransport bounds how long a target may take to its first header; there is no bound for a body, and for neither
// on a tunnel.
func newTransport(o Options, responseTimeout, idleTimeout time.Duration) *http.Transport {
	dialer := &net.Dialer{Timeout: o.dialTimeout(), KeepAlive: 30 * time.Second}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            dialer.DialContext,
		Protocols:              protocols,
		TLSClientConfig:        o.tlsConfig(),
		TLSHandshakeTimeout:    5 * time.Second,
		ExpectContinueTimeout:  time.Second, // the target decides whether it wants the body
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTimeout,
		ResponseHeaderTimeout:  responseTimeout,
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
}

func (c *connections) transportFor(r *http.Request) *http.Transport {
	if isRepeatable(r) {
		return c.repeatable
	}
	return c.unrepeatable
}

// isRepeatable reports whether net/http may send a request again that a dying connection has swallowed.
func isRepeatable(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// closeIdle closes what is idle now, and what becomes idle later unless a request comes before.
func (c *connections) closeIdle() {
	c.repeatable.CloseIdleConnections()
	c.unrepeatable.CloseIdleConnections()
}
