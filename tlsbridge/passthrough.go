package tlsbridge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Passthrough carries raw streams to those who end their TLS. The zero value is ready to use.
type Passthrough struct {
	DialTimeout time.Duration       // also for the first bytes to be sent; 0 means 3 s
	Log         *slog.Logger        // nil discards
	OnResult    func(result string) // is told "passed", "no_target", "dial", "broken" or "loop"; may be nil

	mu  sync.Mutex
	own map[netip.AddrPort]struct{} // the near ends of our connections to others
}

var (
	errLoop        = errors.New("the target leads back to this process")
	errNoTLSTarget = errors.New("the upstream has no https target that is ready")
)

// Carry sends on what the client has sent, then copies both ways until both have ended; the end of one passes on, and the
// other may go on. Between TCP connections the kernel does the copying. Carry closes the stream's connection; whoever
// closes it meanwhile ends it.
func (p *Passthrough) Carry(s Stream) {
	defer func() { _ = s.Conn.Close() }() // what cannot be closed is closed already
	switch {
	case s.To.Address == "":
		p.failed(s, "no_target", errNoTLSTarget)
		return
	case p.isOwn(s.Conn):
		p.failed(s, "loop", errLoop)
		return
	}
	target, err := p.dial(s.To.Address)
	if err != nil {
		p.failed(s, "dial", err)
		return
	}
	defer func() { _ = target.Close() }()
	defer p.remember(target)()
	if err := p.sendFirst(target, s); err != nil {
		p.failed(s, "broken", err)
		return
	}
	p.report("passed")
	exchange(s.Conn, target)
}

func (p *Passthrough) dial(address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: orDefault(p.DialTimeout, 3*time.Second), KeepAlive: 30 * time.Second}
	return dialer.DialContext(context.Background(), "tcp", address)
}

// sendFirst sends the PROXY protocol's header, if one is wanted, and what the client has sent.
func (p *Passthrough) sendFirst(target net.Conn, s Stream) error {
	header, err := proxyHeader(s.To.ProxyHeader, s.Conn.RemoteAddr(), s.Conn.LocalAddr())
	if err != nil {
		return err
	}
	_ = target.SetWriteDeadline(time.Now().Add(orDefault(p.DialTimeout, 3*time.Second))) // fails on a closed connection only
	if _, err := target.Write(append(header, s.Sent...)); err != nil {
		return err
	}
	return target.SetWriteDeadline(time.Time{})
}

// remember notes our end of a connection to somebody else, until forget.
func (p *Passthrough) remember(target net.Conn) (forget func()) {
	near := addressAndPortOf(target.LocalAddr())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own == nil {
		p.own = map[netip.AddrPort]struct{}{}
	}
	p.own[near] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.own, near)
	}
}

// isOwn reports whether the client's end of a connection is ours: it would go round and round until no descriptor is left.
func (p *Passthrough) isOwn(c net.Conn) bool {
	far := addressAndPortOf(socketOf(c).RemoteAddr())
	p.mu.Lock()
	defer p.mu.Unlock()
	_, own := p.own[far]
	return own
}

// addressAndPortOf returns an address of TCP, of IPv4 as such; invalid for others.
func addressAndPortOf(address net.Addr) netip.AddrPort {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	both := tcp.AddrPort()
	return netip.AddrPortFrom(both.Addr().Unmap(), both.Port())
}

func (p *Passthrough) failed(s Stream, result string, err error) {
	p.report(result)
	if p.Log != nil {
		p.Log.Warn("a TLS connection could not be passed on", slog.String("host", s.ServerName), slog.String("target", s.To.Address),
			slog.String("client", s.Conn.RemoteAddr().String()), slog.String("reason", result), slog.Any("error", err))
	}
}

func (p *Passthrough) report(result string) {
	if p.OnResult != nil {
		p.OnResult(result)
	}
}

// exchange copies both ways until both have ended.
func exchange(a, b net.Conn) {
	var copying sync.WaitGroup
	copying.Go(func() { copyHalf(a, b) })
	copyHalf(b, a)
	copying.Wait()
}

// copyHalf copies one way. An end is passed on as half of a connection's end; where it breaks off, all is over.
func copyHalf(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if err == nil {
		err = closeWrite(to)
	}
	if err != nil {
		_ = to.Close() // what cannot be closed is closed already
		_ = from.Close()
	}
}

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
