package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"cutover/proxy/websocket"
)

// tunnel is the connection to the target after a 101.
type tunnel struct {
	io.ReadWriteCloser
	in, out atomic.Int64

	parting *parting
	frames  *websocket.Writer // to the target; nil where the protocol is another
}

func newTunnel(target io.ReadWriteCloser, protocol string, p *parting) *tunnel {
	t := &tunnel{ReadWriteCloser: target, parting: p}
	if strings.EqualFold(protocol, "websocket") {
		t.frames = websocket.NewWriter(target, websocket.FromClient)
	}
	return t
}

func (t *tunnel) Read(b []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(b)
	t.out.Add(int64(n))
	return n, err
}

func (t *tunnel) Write(b []byte) (n int, err error) {
	if t.frames != nil {
		n, err = t.frames.Write(b)
	} else {
		n, err = t.ReadWriteCloser.Write(b)
	}
	t.in.Add(int64(n))
	return n, err
}

// CloseWrite ends the visitor's direction and leaves the target's open, where the connection can do so.
func (t *tunnel) CloseWrite() error {
	if t.frames != nil {
		_ = t.frames.End() // without effect unless the tunnel is to end
	}
	return closeWrite(t.ReadWriteCloser)
}

func closeWrite(connection any) error {
	if half, ok := connection.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Hijack hands the visitor's connection over. If it becomes an end of a tunnel, that is watched for the moment when it is
// to end.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	visitor, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil || w.tunnel == nil {
		return visitor, buffered, err
	}
	return w.tunnel.watch(visitor), buffered, nil
}

// watch has the tunnel end when it is time. It returns what the target's bytes are to be written to: for a WebSocket, what
// follows its frames, and for others the connection as it is, with whatever copying the kernel can do.
func (t *tunnel) watch(visitor net.Conn) net.Conn {
	if t.frames == nil {
		t.parting.watch(func() { t.end(visitor) })
		return visitor
	}
	side := &visitorSide{visitor, websocket.NewWriter(visitor, websocket.FromServer)}
	t.parting.watch(func() { t.endWebSocket(side) })
	return side
}

// end ends a tunnel whose protocol is unknown: the visitor is told with a FIN, and has a moment to do the same.
func (t *tunnel) end(visitor net.Conn) {
	guard := time.AfterFunc(handshakeWait, func() { t.close(visitor) })
	defer guard.Stop()
	_ = closeWrite(visitor) // where it cannot be, the moment still passes
	t.parting.await(nil, handshakeWait)
	t.close(visitor)
}

// endWebSocket closes a WebSocket to both sides, between two frames (RFC 6455 §7.1.2). The visitor is told first: what he
// has sent until he answers still goes to the target.
func (t *tunnel) endWebSocket(visitor *visitorSide) {
	guard := time.AfterFunc(borderWait+2*handshakeWait, func() { t.close(visitor) }) // for one who does not read
	defer guard.Stop()
	t.frames.Replace(websocket.GoingAway)
	visitor.frames.Replace(websocket.ServiceRestart)
	_ = visitor.frames.End() // where it cannot be sent, there is nobody to wait for
	t.parting.await(visitor.frames.Closed(), borderWait)
	t.parting.await(t.frames.Left(), handshakeWait)
	_ = t.frames.End()
	t.parting.await(visitor.frames.Left(), handshakeWait)
	t.close(visitor)
}

// close closes both ends; copying between them ends by that.
func (t *tunnel) close(visitor net.Conn) {
	_ = visitor.Close() // what cannot be closed is closed already
	_ = t.Close()
}

// visitorSide is the visitor's end of a WebSocket: the target's frames are written to it.
type visitorSide struct {
	net.Conn
	frames *websocket.Writer
}

func (v *visitorSide) Write(b []byte) (int, error) { return v.frames.Write(b) }

// CloseWrite ends the target's direction.
func (v *visitorSide) CloseWrite() error {
	_ = v.frames.End() // without effect unless the tunnel is to end
	return closeWrite(v.Conn)
}
