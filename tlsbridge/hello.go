package tlsbridge

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
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

var (
	errPassedOn    = errors.New("the connection goes to somebody else")
	errUnknownName = errors.New("there is no certificate for this name, and none is to be had")
)

// opening is a connection on which crypto/tls reads a ClientHello, and what it has read of it. So the hello is read in
// crypto/tls's own way: of as many records as there are, within the same bounds, and with the same alert for what is none.
// It has answered nothing when it shows the hello; then the connection can still go elsewhere, as if it were untouched.
type opening struct {
	net.Conn
	route   Route
	knows   func(serverName string) bool
	turn    turn
	arrived bool // the hello is there
	keeping bool // it is not, and it may go elsewhere
	kept    []byte
	stream  Stream
	passed  bool // it goes elsewhere: crypto/tls shall say nothing
	unknown bool // there is no certificate for its name, and crypto/tls shall say so
}

func (h *Handshaker) newOpening(c net.Conn) *opening {
	most := h.Computing
	if most == 0 {
		most = sharedProcessors()
	}
	return &opening{
		Conn: c, route: h.Route, knows: h.Knows, keeping: h.Route != nil,
		turn: turn{turns: &h.turns, who: clientBehind(c), most: most},
	}
}

// Read keeps what it reads until the hello is there. What is too long for a hello is left to crypto/tls. Who waits for the
// client does not compute meanwhile.
func (o *opening) Read(b []byte) (int, error) {
	o.turn.giveBack()
	n, err := o.Conn.Read(b)
	if o.arrived && err == nil {
		o.turn.take()
	}
	if o.keeping {
		o.kept = append(o.kept, b[:n]...)
		if len(o.kept) > maxHello {
			o.keeping, o.kept = false, nil
		}
	}
	return n, err
}

// Alerts of TLS (RFC 8446 §6).
const (
	alertRecord       = 21
	alertLength       = 7 // of the record, with its header
	unrecognizedName  = 112
	alertDescription  = alertLength - 1
	alertInternalOnly = 80
)

// Write keeps crypto/tls from alerting a client that goes elsewhere. To one whose name is unknown it would speak of an error of
// ours.
func (o *opening) Write(b []byte) (int, error) {
	if o.passed {
		return len(b), nil
	}
	o.turn.giveBack() // what is to be computed is, and the client may take its time
	if o.unknown && len(b) == alertLength && b[0] == alertRecord && b[alertDescription] == alertInternalOnly {
		b = slices.Clone(b)
		b[alertDescription] = unrecognizedName
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

// decide asks where the connection goes, now that the hello is there; an error ends the handshake.
func (o *opening) decide(hello *tls.ClientHelloInfo) error {
	o.arrived = true
	if o.keeping {
		sent := o.kept
		o.keeping, o.kept = false, nil
		to, passed := o.route(hello.ServerName, hello.SupportedProtos, addressOf(o.Conn.RemoteAddr()))
		if passed {
			o.passed = true
			o.stream = Stream{Conn: o.Conn, Sent: sent, ServerName: hello.ServerName, To: to}
			return errPassedOn
		}
	}
	if o.knows != nil && !o.knows(hello.ServerName) {
		o.unknown = true
		return errUnknownName
	}
	return nil
}

// addressOf returns an address without its port; invalid if it has no IP address.
func addressOf(address net.Addr) netip.Addr { return addressAndPortOf(address).Addr().WithZone("") }
