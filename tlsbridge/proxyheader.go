package tlsbridge

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
)

// The values of Destination.ProxyHeader.
const (
	ProxyHeaderOff = "off"
	ProxyHeaderV1  = "v1" // a line of text
	ProxyHeaderV2  = "v2" // binary
)

// proxyHeader returns what tells a server, at the begin of a connection, who the client is; nothing for ProxyHeaderOff.
func proxyHeader(version string, client, here net.Addr) ([]byte, error) {
	switch version {
	case "", ProxyHeaderOff:
		return nil, nil
	case ProxyHeaderV1:
		return proxyproto.HeaderProxyFromAddrs(1, client, here).Format()
	case ProxyHeaderV2:
		return proxyproto.HeaderProxyFromAddrs(2, client, here).Format()
	}
	return nil, fmt.Errorf("there is no PROXY protocol %q: it must be off, v1 or v2", version)
}

// ProxyProtocol reads the header of the PROXY protocol, version 1 or 2, with which a load balancer says whose connection it
// brings. Nobody but Trusted is believed: of all others a header is what it would be without this, nonsense.
type ProxyProtocol struct {
	Trusted  []netip.Prefix
	Optional bool                // a trusted peer may come without a header, and counts as the client then
	Timeout  time.Duration       // until the header is there; 0 means 5 s
	Log      *slog.Logger        // nil discards
	OnResult func(result string) // is told "ok", "own", "none", "missing", "malformed", "timeout" or "failed"; may be nil

	underway
}

// Before returns what takes connections over in the place of next, which gets them as soon as their header is read: with
// the client's address as RemoteAddr. It returns at once. Connections of others than Trusted go to next as they are.
func (p *ProxyProtocol) Before(next func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		socket, ok := c.(*net.TCPConn)
		if !ok || !p.trusts(addressOf(socket.RemoteAddr())) {
			next(c)
			return
		}
		p.begin(func() {
			if c := p.open(socket); c != nil {
				next(c)
			}
		})
	}
}

func (p *ProxyProtocol) trusts(peer netip.Addr) bool {
	return slices.ContainsFunc(p.Trusted, func(range_ netip.Prefix) bool { return range_.Contains(peer) })
}

var (
	errNoHeader  = errors.New("a trusted peer has sent no header of the PROXY protocol")
	errBadHeader = errors.New("the header of the PROXY protocol is malformed")
)

// open reads the header; it returns nil, and has closed the connection, where it may not go on.
func (p *ProxyProtocol) open(c *net.TCPConn) net.Conn {
	_ = c.SetReadDeadline(time.Now().Add(orDefault(p.Timeout, 5*time.Second))) // fails on a closed connection only
	header, err := readProxyHeader(c)
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err == nil && header == nil && !p.Optional {
		err = errNoHeader
	}
	opened, result := withClient(c, header, err)
	p.report(c, result, err)
	if err != nil {
		_ = c.Close()
		return nil
	}
	return opened
}

// withClient returns the connection as its header wants it to be seen, and how that went.
func withClient(c *net.TCPConn, header *proxyproto.Header, err error) (opened net.Conn, result string) {
	switch {
	case errors.Is(err, errNoHeader):
		return nil, "missing"
	case errors.Is(err, errBadHeader):
		return nil, "malformed"
	case err != nil && isTimeout(err):
		return nil, "timeout"
	case err != nil:
		return nil, "failed" // by the peer, that has left
	case header == nil:
		return c, "none"
	}
	if client, ok := header.SourceAddr.(*net.TCPAddr); ok && header.Command.IsProxy() {
		return &brought{c, client}, "ok"
	}
	return c, "own" // a connection of the peer's own, such as a look at our health
}

func (p *ProxyProtocol) report(c net.Conn, result string, err error) {
	if p.OnResult != nil {
		p.OnResult(result)
	}
	if p.Log != nil && err != nil {
		p.Log.Debug("PROXY protocol", slog.String("peer", c.RemoteAddr().String()), slog.String("result", result), slog.Any("error", err))
	}
}

// brought is a TCP connection that a load balancer brings for a client. It is a *net.TCPConn in all but the address.
type brought struct {
	*net.TCPConn
	client *net.TCPAddr
}

// RemoteAddr is the client's.
func (c *brought) RemoteAddr() net.Addr { return c.client }

// socketOf returns the connection whose other end is whoever has really connected.
func socketOf(c net.Conn) net.Conn {
	switch c := c.(type) {
	case *limited:
		return c.TCPConn
	case *brought:
		return c.TCPConn
	}
	return c
}

// maxProxyHeader bounds a header in bytes. Version 2 may carry more than addresses, such as a client's certificate.
const maxProxyHeader = 4 << 10

// readProxyHeader reads a header and nothing beyond it; nil if the connection begins otherwise: then nothing was read.
func readProxyHeader(c *net.TCPConn) (*proxyproto.Header, error) {
	seen := make([]byte, maxProxyHeader)
	size, err := awaitProxyHeader(c, seen)
	if err != nil || size == 0 {
		return nil, err
	}
	if size > len(seen) {
		return nil, fmt.Errorf("%w: it has %d bytes", errBadHeader, size)
	}
	if _, err := io.ReadFull(c, seen[:size]); err != nil {
		return nil, err
	}
	header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(seen[:size])))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadHeader, err)
	}
	return header, nil
}

// awaitProxyHeader waits until all of the header can be seen, and returns its size. The bytes stay in the kernel: what
// follows them must stay there, where it can be seen that a client has spoken, and be copied by the kernel.
func awaitProxyHeader(c *net.TCPConn, seen []byte) (size int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Read(func(fd uintptr) (done bool) {
		n, err := look(int(fd), seen)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false
		case err == nil && n == 0:
			err = io.EOF
		case err == nil:
			size, done = proxyHeaderSize(seen[:n])
		}
		failed = err
		return done || err != nil
	})
	return size, errors.Join(err, failed)
}

// look reads what waits in the kernel, and leaves it there.
func look(fd int, b []byte) (n int, err error) {
	for {
		n, _, err = unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

const (
	maxLine    = 107 // of version 1, with its line end
	fixedBytes = 16  // of version 2, the last two of which say how many follow
)

// proxyHeaderSize returns the size of the header that b begins with, 0 for none; false if more must be seen to know. A
// line of version 1 that does not end is one of maxLine bytes.
func proxyHeaderSize(b []byte) (size int, known bool) {
	switch {
	case bytes.HasPrefix(b, proxyproto.SIGV1):
		if end := bytes.IndexByte(b[:min(len(b), maxLine)], '\n'); end >= 0 {
			return end + 1, true
		}
		return maxLine, len(b) >= maxLine
	case bytes.HasPrefix(b, proxyproto.SIGV2):
		if len(b) < fixedBytes {
			return 0, false
		}
		size = fixedBytes + int(binary.BigEndian.Uint16(b[fixedBytes-2:]))
		return size, len(b) >= size || size > maxProxyHeader
	}
	undecided := bytes.HasPrefix(proxyproto.SIGV1, b) || bytes.HasPrefix(proxyproto.SIGV2, b)
	return 0, !undecided
}
