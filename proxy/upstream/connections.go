package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
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
	secure  *security // nil if the target speaks no TLS
	// Nanoseconds that making a connection takes, and the handshake of TLS that comes after.
	usually, securing atomic.Int64

	// HTTP/1.1 carries WebSocket, and hands trailers and early answers through as they are.
	repeatable, unrepeatable *lanes
	// multiplexed speaks HTTP/2, where a server says which requests it has not acted upon (RFC 9113 §6.8); nil if the target
	// speaks none.
	multiplexed *http.Transport
	fastCGI     fcgiTransport // nil if the target speaks HTTP
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
	if address.Protocol == rules.ProtocolFCGI {
		c.fastCGI = c.newFastCGI()
		return c
	}
	if address.TLS {
		c.secure = newSecurity(o, address.Host, &m)
	}
	c.repeatable = newLanes(func() *http.Transport { return c.newTransport(idleRepeatable) })
	c.unrepeatable = newLanes(func() *http.Transport { return c.newTransport(idleUnrepeatable) })
	c.unrepeatable.careful = true
	if c.multiplexes() {
		c.multiplexed = c.newMultiplexed()
	}
	return c
}

// multiplexes reports whether the target speaks HTTP/2.
func (c *connections) multiplexes() bool {
	return c.address.Protocol == rules.ProtocolH2C || c.address.Protocol == rules.ProtocolH2
}

func (c *connections) newMultiplexed() *http.Transport {
	transport := c.newTransport(idleRepeatable)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(!c.address.TLS)
	transport.Protocols.SetHTTP2(c.address.TLS)
	transport.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dialTLS(ctx, alpnHTTP2) }
	return transport
}

// alpn is what a target is asked for that is to speak HTTP/1.1: one that speaks nothing else is not asked.
func (c *connections) alpn() string {
	if c.address.Protocol == rules.ProtocolH2 {
		return alpnHTTP1
	}
	return ""
}

// newTransport bounds how long a target may take to its first header; there is no bound for a body, and for neither
// on a tunnel.
func (c *connections) newTransport(idleTimeout time.Duration) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DialTLSContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dialTLS(ctx, c.alpn()) },
		Protocols:              protocols,
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
// get requests on its connections until the kernel gives up, which takes a quarter of an hour. The kernel counts the time in which
// a target that is well does not read, too; so it must be longer than an application works before it reads an upload. Who can go
// elsewhere does not wait for it; see waits.
const vanished = 2 * time.Minute

func (c *connections) dial(ctx context.Context) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: c.connectTimeout(), KeepAlive: 30 * time.Second}
	if c.address.Network == "tcp" {
		dialer.Control = giveUpAfter(c.options.vanishedTimeout())
	}
	hesitant, stop := c.hesitantly(ctx, c.hesitation())
	defer stop()
	began := time.Now()
	conn, err := dialPatiently(hesitant, dialer, c.address.Network, c.address.Dial)
	switch {
	case err == nil:
		note(&c.usually, time.Since(began))
	case errors.Is(context.Cause(hesitant), errHangs):
		err = errHangs
	}
	if err != nil || !c.announces() {
		return conn, err
	}
	if err := c.announce(ctx, conn); err != nil {
		return nil, err
	}
	return conn, nil
}

// dialTLS makes a connection of which a target has proved that it is its own.
func (c *connections) dialTLS(ctx context.Context, protocol string) (net.Conn, error) {
	plain, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	hesitant, stop := c.hesitantly(ctx, c.hesitationTLS())
	defer stop()
	began := time.Now()
	conn, err := c.secure.handshake(hesitant, plain, protocol)
	switch {
	case err == nil:
		note(&c.securing, time.Since(began))
		return conn, nil
	case errors.Is(context.Cause(hesitant), errHangs):
		return nil, errHangs
	}
	return nil, err // not a nil *tls.Conn
}

func (c *connections) connectTimeout() time.Duration {
	if c.manner.timeouts.Connect > 0 {
		return rules.Seconds(c.manner.timeouts.Connect)
	}
	return c.options.dialTimeout()
}

// giveUpAfter has the kernel end a connection on which nothing was acknowledged for so long.
func giveUpAfter(limit time.Duration) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		wrong := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit/time.Millisecond))
		})
		return errors.Join(wrong, err)
	}
}

// send sends a request whose URL has no scheme and host yet. Its Host says whose it is.
func (c *connections) send(r *http.Request) (*http.Response, error) {
	if c.fastCGI != nil {
		return c.fastCGI.RoundTrip(r)
	}
	at := *r.URL
	at.Scheme, at.Host = "http", c.address.Dial
	if c.address.TLS {
		at.Scheme = "https"
	}
	if c.address.Network == "unix" {
		at.Host = "socket" // net/http insists on one
	}
	r.URL, r.Header = &at, keyed(r)
	response, err := c.roundTrip(r)
	if err != nil && c.secure != nil {
		err = c.secure.explainRefusal(err)
	}
	return response, err
}

// roundTrip lets an answer of HTTP/2 end before its request does. net/http waits at its end until the request's body has been sent,
// which may be for ever: who has his answer need not send the rest.
func (c *connections) roundTrip(r *http.Request) (*http.Response, error) {
	transport := c.transportFor(r)
	if !c.multiplexes() || isUpgrade(r) || r.Body == nil || r.Body == http.NoBody {
		return transport.RoundTrip(r)
	}
	ctx, cancel := context.WithCancel(r.Context())
	response, err := transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	response.Body = &hastyBody{response.Body, cancel}
	return response, nil
}

// hastyBody is the body of an answer that waits for nothing when it is closed.
type hastyBody struct {
	io.ReadCloser
	giveUp context.CancelFunc
}

func (b *hastyBody) Close() error {
	b.giveUp()
	return b.ReadCloser.Close()
}

// transportFor keeps to HTTP/1.1 for what wants to leave HTTP: WebSocket over HTTP/2 (RFC 8441) is not in net/http.
func (c *connections) transportFor(r *http.Request) http.RoundTripper {
	switch {
	case c.announces():
		return c.newPrivate(r)
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
	ctx, cancel := context.WithTimeout(ctx, c.connectTimeout()+c.manner.tlsTimeout())
	defer cancel()
	dial := c.dial
	if c.secure != nil {
		dial = c.tryTLS
	}
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	_ = conn.Close() // it was only tried
	return nil
}

func (c *connections) tryTLS(ctx context.Context) (net.Conn, error) {
	if c.multiplexed != nil {
		return c.dialTLS(ctx, alpnHTTP2)
	}
	return c.dialTLS(ctx, c.alpn())
}

// closeIdle closes what is idle now, and what becomes idle later unless a request comes before.
func (c *connections) closeIdle() {
	if c.fastCGI != nil {
		c.fastCGI.CloseIdleConnections()
		return
	}
	c.repeatable.CloseIdleConnections()
	c.unrepeatable.CloseIdleConnections()
	if c.multiplexed != nil {
		c.multiplexed.CloseIdleConnections()
	}
}
