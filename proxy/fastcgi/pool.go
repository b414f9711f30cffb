package fastcgi

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
	"syscall"
	"time"
)

const (
	// For requests that must not reach the application twice a connection is not used after this time: nobody can know whether
	// it has closed the connection before it read the request, or after.
	idleUnrepeatable = time.Second

	readBuffer = 32 << 10
	mostHead   = 16 << 10 // of what a kept connection may remember for the next answer's header
)

// memory is what exchanges use one after the other.
type memory struct {
	in   *bufio.Reader
	out  []byte // the beginning of a request
	head []byte // the header of an answer
}

// connection is one to the application.
type connection struct {
	net.Conn
	*memory
	since time.Time

	raw   syscall.RawConn // nil if the connection cannot be looked at
	look  func(fd uintptr) bool
	alive bool // what look saw
}

func (t *Transport) newConnection(c net.Conn) *connection {
	m, ok := t.spare.Get().(*memory)
	if !ok {
		m = &memory{in: bufio.NewReaderSize(nil, readBuffer)}
	}
	m.in.Reset(c)
	return &connection{Conn: c, memory: m}
}

// release closes a connection whose exchange is over and leaves its memory to others: nobody reads or writes any more.
func (t *Transport) release(c *connection) {
	_ = c.Close() // of no use any more
	m := c.memory
	m.in.Reset(nil)
	m.trim()
	t.spare.Put(m)
}

// trim forgets what has grown large.
func (m *memory) trim() {
	if cap(m.head) > mostHead {
		m.head = nil
	}
	if cap(m.out) > mostHead {
		m.out = nil
	}
}

// quiet reports whether the application has neither closed the connection nor said anything that nobody asked for.
func (c *connection) quiet() bool {
	if c.look == nil {
		c.prepareLook()
	}
	if c.raw == nil {
		return false
	}
	c.alive = false
	return c.raw.Read(c.look) == nil && c.alive
}

func (c *connection) prepareLook() {
	if socket, ok := c.Conn.(syscall.Conn); ok {
		c.raw, _ = socket.SyscallConn() // nil if there is none
	}
	c.look = func(fd uintptr) bool {
		var one [1]byte
		_, err := syscall.Read(int(fd), one[:]) //nolint:gosec // it is a descriptor
		c.alive = errors.Is(err, syscall.EAGAIN)
		return true
	}
}

// pool keeps connections for further requests, the latest used last. No goroutine watches them: those that the application has
// closed are noticed when they are to be used, or closed here once they are old.
type pool struct {
	most    int
	timeout time.Duration

	mu     sync.Mutex
	idle   []*connection
	closed bool
	timer  *time.Timer // runs while anything idles
}

// take returns a connection to use again, nil if there is none. Where those that idle are too old for a request that must not
// be repeated, one of them is closed: a new connection needs its place in the application.
func (p *pool) take(repeatable bool) *connection {
	for {
		c, closing := p.pop(repeatable)
		if closing != nil {
			_ = closing.Close() // it is given up
		}
		if c == nil || c.quiet() {
			return c
		}
		_ = c.Close() // it is of no use
	}
}

func (p *pool) pop(repeatable bool) (c, closing *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = false
	last := len(p.idle) - 1
	if last < 0 {
		return nil, nil
	}
	age := time.Since(p.idle[last].since)
	if age < p.timeout && (repeatable || age < idleUnrepeatable) {
		c = p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		return c, nil
	}
	closing = p.idle[0]
	p.idle = append(p.idle[:0], p.idle[1:]...)
	return nil, closing
}

// put keeps a connection, or closes it.
func (p *pool) put(c *connection) {
	c.trim()
	if !p.push(c) {
		_ = c.Close() // it is not needed
	}
}

func (p *pool) push(c *connection) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.most {
		return false
	}
	c.since = time.Now()
	p.idle = append(p.idle, c)
	if p.timer == nil {
		p.timer = time.AfterFunc(p.timeout, p.expire)
	}
	return true
}

// expire closes what has idled for long, and comes again as long as anything idles.
func (p *pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil {
		return // all was closed meanwhile
	}
	for len(p.idle) > 0 && time.Since(p.idle[0].since) >= p.timeout {
		_ = p.idle[0].Close() // it is given up
		p.idle = append(p.idle[:0], p.idle[1:]...)
	}
	if len(p.idle) == 0 {
		p.timer = nil
		return
	}
	p.timer.Reset(time.Until(p.idle[0].since.Add(p.timeout)))
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.Close() // it is given up
	}
	p.idle, p.closed = nil, true
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// connect gets a connection: one kept from before, unless a fresh one is asked for. The trace is told that one is sought only as
// long as nothing of the body was read: whoever hears that none was found may send the request, with the same body, elsewhere.
func (x *exchange) connect(fresh bool) error {
	trace := httptrace.ContextClientTrace(x.r.Context())
	if trace != nil && trace.GetConn != nil && (!fresh || x.length <= 0 || x.length > atOnce) {
		trace.GetConn(x.t.config.Address)
	}
	x.c = nil
	if !fresh {
		x.c = x.t.pool.take(isRepeatable(x.r))
	}
	if x.kept = x.c != nil; !x.kept {
		made, err := x.t.config.Dial(x.r.Context())
		if err != nil {
			return err
		}
		x.c = x.t.newConnection(made)
	}
	if trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: x.c.Conn, Reused: x.kept, WasIdle: x.kept, IdleTime: idleTime(x.c, x.kept)})
	}
	return nil
}

func idleTime(c *connection, kept bool) time.Duration {
	if !kept {
		return 0
	}
	return time.Since(c.since)
}

// dialer returns how an application is connected to.
func dialer(c *Config) func(context.Context) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial
	}
	network, address, d := c.Network, c.Address, &net.Dialer{Timeout: c.DialTimeout}
	return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, network, address) }
}
