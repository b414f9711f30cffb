package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/sys/unix"

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

// connections keeps the connections to one target. HTTP_PROXY is ignored, and bodies stay compressed or not as the target
// sent them.
type connections struct {
	options Options
	address rules.Address
	manner  manner

	// HTTP/1.1 carries WebSocket, and hands trailers and early answers through as they are.
	repeatable, unrepeatable *http.Transport
	// multiplexed speaks HTTP/2, where a server says which requests it has not acted upon (RFC 9113 §6.8); nil if the target
	// speaks none.
	multiplexed *http.Transport
}

// manner is what the row of an upstream says of connections to its targets; those are made anew when it changes.
type manner struct {
	answersIn     time.Duration // at most, until the first header; 0 for no limit
	timeouts      rules.Timeouts
	tls           rules.TargetTLS
	proxyProtocol rules.ProxyProtocol
	fastCGI       rules.FastCGI
}

func mannerOf(u *rules.Upstream) manner {
	return manner{rules.Seconds(u.ResponseTimeout), u.Timeouts, u.TargetTLS, u.ProxyProtocol, u.FastCGI}
}

func newConnections(o Options, address rules.Address, m manner) *connections {
	c := &connections{options: o, address: address, manner: m}
	c.repeatable = c.newTransport(idleRepeatable)
	c.unrepeatable = c.newTransport(idleUnrepeatable)
	if address.Protocol == rules.ProtocolH2C {
		c.multiplexed = c.newTransport(idleRepeatable)
		c.multiplexed.Protocols = new(http.Protocols)
		c.multiplexed.Protocols.SetUnencryptedHTTP2(true)
	}
	return c
}

// newTransport bounds how long a target may take to its first header; there is no bound for a body, and for neither
// on a tunnel.
func (c *connections) newTransport(idleTimeout time.Duration) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		Protocols:              protocols,
		TLSClientConfig:        c.options.tlsConfig(),
		TLSHandshakeTimeout:    5 * time.Second,
		ExpectContinueTimeout:  time.Second, // the target decides whether it wants the body
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTimeout,
		ResponseHeaderTimeout:  c.manner.answersIn,
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
}

// vanished is how long a target's machine may leave what was sent unacknowledged: one that is gone without a word would else
// get requests on its connections until the kernel gives up, which takes a quarter of an hour.
const vanished = 20 * time.Second

func (c *connections) dial(ctx context.Context) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: c.options.dialTimeout(), KeepAlive: 30 * time.Second}
	if c.address.Network == "tcp" {
		dialer.Control = giveUpOnTheVanished
	}
	return dialPatiently(ctx, dialer, c.address.Network, c.address.Dial)
}

func giveUpOnTheVanished(_, _ string, raw syscall.RawConn) error {
	var err error
	wrong := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(vanished/time.Millisecond))
	})
	return errors.Join(wrong, err)
}

// send sends a request whose URL has no scheme and host yet. Its Host says whose it is.
func (c *connections) send(r *http.Request) (*http.Response, error) {
	at := *r.URL
	at.Scheme, at.Host = "http", c.address.Dial
	if c.address.TLS {
		at.Scheme = "https"
	}
	if c.address.Network == "unix" {
		at.Host = "socket" // net/http insists on one
	}
	r.URL = &at
	return c.transportFor(r).RoundTrip(r)
}

// transportFor keeps to HTTP/1.1 for what wants to leave HTTP: WebSocket over HTTP/2 (RFC 8441) is not in net/http.
func (c *connections) transportFor(r *http.Request) *http.Transport {
	switch {
	case c.multiplexed != nil && !isUpgrade(r):
		return c.multiplexed
	case isRepeatable(r):
		return c.repeatable
	}
	return c.unrepeatable
}

// isUpgrade reports whether a request wants to leave HTTP.
func isUpgrade(r *http.Request) bool {
	return httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade")
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

// try makes a connection, TLS included where the target wants it, and closes it.
func (c *connections) try(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.dialTimeout())
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if !c.address.TLS {
		return nil
	}
	config := c.options.tlsConfig()
	config.ServerName = c.address.Host
	return tls.Client(conn, config).HandshakeContext(ctx)
}

// closeIdle closes what is idle now, and what becomes idle later unless a request comes before.
func (c *connections) closeIdle() {
	for _, transport := range []*http.Transport{c.repeatable, c.unrepeatable, c.multiplexed} {
		if transport != nil {
			transport.CloseIdleConnections()
		}
	}
}
