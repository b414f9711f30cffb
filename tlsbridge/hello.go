package tlsbridge

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// maxHello bounds what a client may have sent until its connection can still go elsewhere. crypto/tls takes no ClientHello
// that is longer.
const maxHello = 64 << 10

// Destination is where a connection goes whose TLS somebody else ends.
type Destination struct {
	Address     string // host:port; empty where there is nobody: the connection is closed, and the log says so
	ProxyHeader string // ProxyHeaderOff, ProxyHeaderV1 or ProxyHeaderV2; empty means off
}

// Stream is a connection on its way to somebody else. Nothing has been said to the client yet.
type Stream struct {
	Conn       net.Conn
	Sent       []byte // what the client has sent so far, its ClientHello first
	ServerName string
	To         Destination
}

// Route says where the connection of a ClientHello goes; false means that its TLS is ended here. It is asked at every
// handshake, so it must be quick.
type Route func(serverName string, protocols []string, client netip.Addr) (Destination, bool)

var errPassedOn = errors.New("the connection goes to somebody else")

// opening is a connection on which crypto/tls reads a ClientHello, and what it has read of it. So the hello is read in
// crypto/tls's own way: of as many records as there are, within the same bounds, and with the same alert for what is none.
// It has answered nothing when it shows the hello; then the connection can still go elsewhere, as if it were untouched.
type opening struct {
	net.Conn
	route   Route
	keeping bool // the hello is not there yet
	kept    []byte
	stream  Stream
	passed  bool // it goes elsewhere: crypto/tls shall say nothing
}

func newOpening(c net.Conn, route Route) *opening {
	return &opening{Conn: c, route: route, keeping: true}
}

// Read keeps what it reads until the hello is there. What is too long for a hello is left to crypto/tls.
func (o *opening) Read(b []byte) (int, error) {
	n, err := o.Conn.Read(b)
	if o.keeping {
		o.kept = append(o.kept, b[:n]...)
		if len(o.kept) > maxHello {
			o.keeping, o.kept = false, nil
		}
	}
	return n, err
}

// Write keeps crypto/tls from alerting a client that goes elsewhere.
func (o *opening) Write(b []byte) (int, error) {
	if o.passed {
		return len(b), nil
	}
	return o.Conn.Write(b)
}

// SyscallConn leads to the socket: the frontend asks whether bytes wait there.
func (o *opening) SyscallConn() (syscall.RawConn, error) {
	if socket, ok := o.Conn.(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// decide asks where the connection goes, now that the hello is there.
func (o *opening) decide(hello *tls.ClientHelloInfo) (passed bool) {
	if !o.keeping {
		return false
	}
	sent := o.kept
	o.keeping, o.kept = false, nil
	to, passed := o.route(hello.ServerName, hello.SupportedProtos, addressOf(o.Conn.RemoteAddr()))
	if passed {
		o.passed = true
		o.stream = Stream{Conn: o.Conn, Sent: sent, ServerName: hello.ServerName, To: to}
	}
	return passed
}

// addressOf returns an address without its port; invalid if it has no IP address.
func addressOf(address net.Addr) netip.Addr { return addressAndPortOf(address).Addr().WithZone("") }
