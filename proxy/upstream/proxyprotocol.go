package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"cutover/rules"
)

// Client is whose connection a request came by, and to where: what the PROXY protocol tells a target.
type Client struct {
	From netip.AddrPort // the port is 0 where it is not known
	To   netip.AddrPort // our own address that the visitor has connected to; invalid where it is not known
}

type clientKey struct{}

// WithClient returns a context that makes a target whose upstream wants it learn whose request it gets. Without it a target is told
// that the connection is our own.
func WithClient(ctx context.Context, v Client) context.Context {
	return context.WithValue(ctx, clientKey{}, v)
}

// announces reports whether connections begin with a header of the PROXY protocol. Such a connection belongs to one request: what
// it says holds for nobody else.
func (c *connections) announces() bool {
	return c.manner.proxyProtocol == rules.ProxyProtocolV1 || c.manner.proxyProtocol == rules.ProxyProtocolV2
}

// newPrivate returns a transport for one request. One that requests share would give a connection that was made for one to another:
// HTTP/2 does so, even if nothing is kept alive.
func (c *connections) newPrivate(r *http.Request) *http.Transport {
	transport := c.newTransport(idleUnrepeatable)
	if c.multiplexes() && !isUpgrade(r) {
		transport = c.newMultiplexed()
		transport.IdleConnTimeout = idleUnrepeatable // of one that is made too late for its request
	}
	transport.DisableKeepAlives = true
	return transport
}

// announce tells a target at the begin of a connection whose it is. If it fails the connection is closed.
func (c *connections) announce(ctx context.Context, conn net.Conn) error {
	header, err := proxyHeader(ctx, c.manner.proxyProtocol)
	if err == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(c.options.dialTimeout())) // fails on a closed connection only
		_, err = conn.Write(header)
	}
	if err != nil {
		return fmt.Errorf("PROXY protocol: %w", errors.Join(err, conn.Close()))
	}
	return conn.SetWriteDeadline(time.Time{})
}

// proxyHeader returns what names the visitor; LOCAL or UNKNOWN for what is nobody's.
func proxyHeader(ctx context.Context, version rules.ProxyProtocol) ([]byte, error) {
	number := byte(1)
	if version == rules.ProxyProtocolV2 {
		number = 2
	}
	v, _ := ctx.Value(clientKey{}).(Client)
	if !v.From.IsValid() {
		return proxyproto.HeaderProxyFromAddrs(number, nil, nil).Format()
	}
	if !v.To.IsValid() {
		v.To = netip.AddrPortFrom(unspecified(v.From.Addr()), 0)
	}
	return proxyproto.HeaderProxyFromAddrs(number, net.TCPAddrFromAddrPort(v.From), net.TCPAddrFromAddrPort(v.To)).Format()
}

func unspecified(like netip.Addr) netip.Addr {
	if like.Unmap().Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
