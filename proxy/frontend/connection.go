package frontend

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// connection is what is known of an open connection. It stands between net/http and the connection itself, so that it
// sees what net/http does not tell: that a client has begun to speak, and that a hijacked connection was closed.
type connection struct {
	net.Conn
	registry *registry
	framed   *framedConn  // nil but for HTTP/2
	state    atomic.Int32 // http.ConnState
	since    atomic.Int64 // it has been in that state; Unix nanoseconds
	heard    atomic.Int64 // since when the client has sent something, since the connection became new or idle; Unix nanoseconds, 0 for not yet
	closing  atomic.Bool  // Drain has chosen it to be closed
	over     atomic.Bool  // nothing more is read from it
	lengths  lengths      // of HTTP/1.1
	taking   taking
	// bodyUntil is when what is left of a request's body must be there, in Unix nanoseconds; 0 for whenever.
	bodyUntil atomic.Int64
	// onRefused is told why the client is cut off; may be nil.
	onRefused func(reason string, client net.Addr)

	work
}

// tracked is a net.Conn around a *connection.
type tracked interface {
	net.Conn
	tracked() *connection
}

func (c *connection) tracked() *connection { return c }

// noteState is http.Server's ConnState.
func noteState(conn net.Conn, state http.ConnState) {
	t, ok := conn.(tracked)
	if !ok {
		return // cannot be: every queue has only our own
	}
	c := t.tracked()
	switch state {
	case http.StateNew:
		return // since it was handed over
	case http.StateIdle:
		c.heard.Store(0)
		c.bodyUntil.Store(0)
		c.lengths.requestEnded()
	case http.StateClosed:
		c.registry.remove(c)
	}
	c.since.Store(time.Now().UnixNano())
	c.state.Store(int32(state))
}

func (c *connection) is(state http.ConnState) bool { return c.state.Load() == int32(state) }

// Read notes that the client speaks.
func (c *connection) Read(b []byte) (int, error) {
	if c.over.Load() {
		return 0, io.EOF
	}
	c.lengths.readBegins()
	n, err := c.Conn.Read(b)
	if n > 0 && c.heard.Load() == 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	if c.framed == nil {
		c.lengths.follow(b[:n])
	}
	if err != nil {
		c.readFailed(err)
	}
	return n, err
}

// Close closes the connection. Of a hijacked one net/http does not tell the end; here it is.
func (c *connection) Close() error {
	if c.is(http.StateHijacked) {
		c.registry.remove(c)
	}
	return c.Conn.Close()
}

// CloseWrite ends one direction, where the connection can do so: the proxy passes on half a tunnel's end.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// cut closes the connection below TLS: at once, and so that the client can tell a cut answer from a whole one.
func (c *connection) cut() {
	conn := c.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	_ = conn.Close() // what cannot be closed is closed already
	if c.is(http.StateHijacked) {
		c.registry.remove(c)
	}
}

// silent reports whether nothing has come on a new or idle connection, not even into the kernel's buffer.
func (c *connection) silent() bool { return c.heard.Load() == 0 && !unread(c.Conn) }

// unread reports whether bytes wait in the kernel.
func unread(conn net.Conn) bool {
	raw := socketOf(conn)
	if raw == nil {
		return false
	}
	waiting := 0
	err := raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	return err == nil && waiting > 0
}

// plainConn is a connection in clear text. It keeps the kernel's copying from socket to socket within reach.
type plainConn struct{ *connection }

// ReadFrom is io.ReaderFrom; on TCP it may splice.
func (c *plainConn) ReadFrom(r io.Reader) (int64, error) {
	if from, ok := c.Conn.(io.ReaderFrom); ok {
		return from.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}

// WriteTo is io.WriterTo; on TCP it may splice. It is of use on a hijacked connection only.
func (c *plainConn) WriteTo(w io.Writer) (int64, error) {
	c.heard.Store(time.Now().UnixNano())
	return io.Copy(w, c.Conn)
}

// tlsConn is a connection over TLS for HTTP/1.1; net/http fills Request.TLS from it.
type tlsConn struct {
	*connection
	secure *tls.Conn
}

// ConnectionState is what the handshake agreed on.
func (c *tlsConn) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }
