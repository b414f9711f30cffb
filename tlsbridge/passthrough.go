package tlsbridge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Passthrough carries raw streams to those who end their TLS. The zero value is ready to use.
type Passthrough struct {
	DialTimeout time.Duration // also for the first bytes to be sent; 0 means 3 s
	Idle        time.Duration // a stream on which nothing moves either way for so long is ended; 0 means 1 h
	Stall       time.Duration // the same once one way has ended; 0 means 5 min
	Log         *slog.Logger  // nil discards
	// OnResult is told "passed", "no_target", "dial", "broken" or "loop", and of a stream that was passed, but is ended here,
	// "idle" or "half_open"; may be nil.
	OnResult func(result string)

	failures failures

	mu  sync.Mutex
	own map[netip.AddrPort]struct{} // the near ends of our connections to others
}

var (
	errLoop        = errors.New("the target leads back to this process")
	errNoTLSTarget = errors.New("the upstream has no https target that is ready")
)

// Carry sends on what the client has sent, then copies both ways until both have ended; the end of one passes on, and the
// other may go on, as long as something moves. Between TCP connections the kernel does the copying. Carry closes the
// stream's connection; whoever closes it meanwhile ends it.
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
	p.exchange(s, target)
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
	if p.Log == nil {
		return
	}
	if others, say := p.failures.say(s.ServerName, result, time.Now()); say {
		p.Log.Warn("a TLS connection could not be passed on", slog.String("host", s.ServerName), slog.String("target", s.To.Address),
			slog.String("client", s.Conn.RemoteAddr().String()), slog.String("reason", result), slog.Int("others", others), slog.Any("error", err))
	}
}

func (p *Passthrough) report(result string) {
	if p.OnResult != nil {
		p.OnResult(result)
	}
}

// exchange copies both ways until both have ended, or nothing moves any more.
func (p *Passthrough) exchange(s Stream, target net.Conn) {
	ended := make(chan struct{}, 2)
	var copying sync.WaitGroup
	for to, from := range map[net.Conn]net.Conn{s.Conn: target, target: s.Conn} {
		copying.Go(func() {
			copyHalf(to, from)
			ended <- struct{}{}
		})
	}
	result := p.watch(ended, func() uint64 { return carriedBy(s.Conn) + carriedBy(target) })
	if result != "" {
		p.report(result)
		_ = s.Conn.Close() // what cannot be closed is closed already
		_ = target.Close()
	}
	copying.Wait()
}

// looksALimit is how often a stream is looked at within the time that nothing may move: it ends that part of it too late.
const looksALimit = 4

// watch waits until both ways have ended, and returns ""; or until moved, which counts what has gone over the stream, has
// stood still for too long, and returns in which state.
func (p *Passthrough) watch(ended <-chan struct{}, moved func() uint64) (result string) {
	limit, result := orDefault(p.Idle, time.Hour), "idle"
	ticker := time.NewTicker(max(limit/looksALimit, time.Millisecond))
	defer ticker.Stop()
	last, since := moved(), time.Now()
	for open := 2; open > 0; {
		select {
		case <-ended:
			open--
			limit, result = min(limit, orDefault(p.Stall, 5*time.Minute)), "half_open"
			last, since = moved(), time.Now()
			ticker.Reset(max(limit/looksALimit, time.Millisecond))
		case <-ticker.C:
			if now := moved(); now != last {
				last, since = now, time.Now()
			} else if time.Since(since) >= limit {
				return result
			}
		}
	}
	return ""
}

// carriedBy counts what a connection's peer has sent and what it has acknowledged. The kernel is asked, since it does the
// copying; of a connection that is not TCP, or is closed, it says nothing.
func carriedBy(c net.Conn) (bytes uint64) {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // fails on a closed connection only
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			bytes = info.Bytes_received + info.Bytes_acked
		}
	})
	return bytes
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
