package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// lanes lend each connection of HTTP/1.1 to one request at a time, and lend it again only once it is known that the target has
// sent nothing but the answer. net/http alone keeps a connection at the end of an answer, and looks only then whether more has
// come: a request that takes it in between gets what follows for its own answer, be it another visitor's. So each connection has
// a transport of its own here, which gets its next request when that has found nothing more and waits for the target again.
//
// What is sent so late that the next request is already on its way cannot be told from its answer; HTTP/2 names the request.
type lanes struct {
	newTransport func() *http.Transport
	careful      bool // net/http does not repeat their requests: so it is looked first whether the target has closed the connection

	mu      sync.Mutex
	free    []*lane // the one that was used last is the last
	closing bool    // what becomes free is closed, until a request comes
}

// lane is a transport and its only connection.
type lane struct {
	lanes     *lanes
	transport *http.Transport

	// All that follows is guarded by lanes.mu.
	conn    *laneConn // nil if it is gone
	last    *laneConn // that there was
	reading bool      // the transport waits for the target
	ended   bool      // the answer has come to its end
}

func newLanes(newTransport func() *http.Transport) *lanes {
	return &lanes{newTransport: newTransport}
}

// RoundTrip sends a request over a connection that no other request uses.
func (l *lanes) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		at, kept := l.takeOpen()
		response, err := at.transport.RoundTrip(r)
		if err == nil {
			at.lend(response)
			return response, nil
		}
		at.transport.CloseIdleConnections() // one may have been made too late
		if isVisitors(err) || !at.hasWrittenNothing(kept) || !rewind(&r) {
			return nil, err
		}
	}
}

// lend makes the lane free once an answer has come to its end.
func (at *lane) lend(response *http.Response) {
	switch {
	case response.StatusCode == http.StatusSwitchingProtocols: // whoever has the tunnel closes it
	case response.Body == http.NoBody:
		at.end()
	default:
		response.Body = &laneBody{ReadCloser: response.Body, lane: at}
	}
}

// CloseIdleConnections closes what is idle now, and what becomes idle later unless a request comes before.
func (l *lanes) CloseIdleConnections() {
	l.mu.Lock()
	free := l.free
	l.free, l.closing = nil, true
	l.mu.Unlock()
	for _, at := range free {
		at.transport.CloseIdleConnections()
	}
}

// take returns a lane that is free, or a new one.
func (l *lanes) take() *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closing = false
	if last := len(l.free) - 1; last >= 0 {
		at := l.free[last]
		l.free = slices.Delete(l.free, last, last+1)
		return at
	}
	return l.newLane()
}

func (l *lanes) newLane() *lane {
	at := &lane{lanes: l, transport: l.newTransport()}
	at.transport.DialContext = at.dialing(at.transport.DialContext)
	at.transport.DialTLSContext = at.dialing(at.transport.DialTLSContext)
	return at
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func (at *lane) dialing(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return at.use(conn), nil
	}
}

// use makes a connection the lane's.
func (at *lane) use(conn net.Conn) *laneConn {
	at.lanes.mu.Lock()
	defer at.lanes.mu.Unlock()
	at.conn = &laneConn{Conn: conn, lane: at, asked: true, wrote: true}
	at.last = at.conn
	at.reading, at.ended = false, false
	return at.conn
}

// end is for when the answer has come to its end.
func (at *lane) end() {
	at.lanes.mu.Lock()
	at.ended = true
	surplus := at.settle()
	at.lanes.mu.Unlock()
	if surplus {
		at.transport.CloseIdleConnections()
	}
}

// settle makes the lane free if its answer has ended and nothing has come after it. It needs the lock, and reports whether the
// lane is one too many.
func (at *lane) settle() (surplus bool) {
	if !at.ended || !at.reading || at.conn == nil {
		return false
	}
	at.ended, at.conn.asked, at.conn.wrote = false, false, false
	if at.lanes.closing || len(at.lanes.free) >= idleConnections {
		return true
	}
	at.lanes.free = append(at.lanes.free, at)
	return false
}

// drop takes the lane from those that are free. It needs the lock.
func (at *lane) drop() {
	if i := slices.Index(at.lanes.free, at); i >= 0 {
		at.lanes.free = slices.Delete(at.lanes.free, i, i+1)
	}
}

// laneBody tells when it ends, and no more than once: then the lane may be another's.
type laneBody struct {
	io.ReadCloser
	lane  *lane
	ended atomic.Bool
}

func (b *laneBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && b.ended.CompareAndSwap(false, true) {
		b.lane.end()
	}
	return n, err
}

// laneConn tells when its reader waits, and reads nothing that came before anything was asked.
type laneConn struct {
	net.Conn
	lane *lane

	// What follows is guarded by lanes.mu.
	asked   bool // something of the request was to be written
	wrote   bool // and may have been
	givenUp bool // nothing may be written any more
}

var errUnasked = errors.New("the target has sent something that nobody asked for")

// Read counts as waiting for the next answer if the last one has ended.
func (c *laneConn) Read(p []byte) (int, error) {
	if !c.waits() {
		return 0, io.EOF // its transport closes it
	}
	n, err := c.Conn.Read(p)
	if c.reads(n) {
		return n, err
	}
	_ = c.Close() // the error says why
	return 0, errUnasked
}

// waits reports whether there is use for the connection.
func (c *laneConn) waits() bool {
	c.lane.lanes.mu.Lock()
	defer c.lane.lanes.mu.Unlock()
	if c.lane.conn != c {
		return true // nobody's; whoever has it ends it
	}
	c.lane.reading = true
	return !c.lane.settle()
}

// reads reports whether what was read was asked for.
func (c *laneConn) reads(n int) bool {
	c.lane.lanes.mu.Lock()
	defer c.lane.lanes.mu.Unlock()
	if c.lane.conn == c {
		c.lane.reading = false
	}
	return n == 0 || c.asked
}

func (c *laneConn) Write(p []byte) (int, error) {
	wrote, err := c.begin()
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if n == 0 && err != nil && !wrote {
		c.wroteNothing()
	}
	return n, err
}

// Close takes the lane from those that are free.
func (c *laneConn) Close() error {
	c.lane.lanes.mu.Lock()
	if c.lane.conn == c {
		c.lane.conn = nil
		c.lane.drop()
	}
	c.lane.lanes.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite ends one direction and leaves the other open, where the connection can do so.
func (c *laneConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
