package tlsbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"time"
)

// Sink takes connections over: it closes them.
type Sink interface{ ServeConn(c net.Conn) }

// Handshaker does the TLS handshake of each connection in a goroutine of its own, and hands it to a sink. Config and
// Sinks are required.
type Handshaker struct {
	// Config must have HelloArrived as its GetConfigForClient.
	Config *tls.Config
	Sinks  map[string]Sink // by negotiated protocol; "" is for clients that negotiate none

	HelloTimeout     time.Duration       // until the ClientHello is there; 0 means 5 s
	HandshakeTimeout time.Duration       // for the rest; 0 means 10 s
	IssueTimeout     time.Duration       // for the rest while a certificate is being issued; 0 means 60 s
	Log              *slog.Logger        // nil discards
	OnResult         func(result string) // is told "ok", "passed", "timeout", "refused" or "failed"; may be nil

	// Knows reports whether there may be a certificate for a name; nil means that there may be one for each. Others get the
	// alert unrecognized_name before anything is computed for them. It is asked at every handshake, so it must be quick.
	Knows func(serverName string) bool
	// Computing is how many handshakes may compute at one time; 0 means half as many as there are processors. The others
	// wait, and their networks take turns.
	Computing int

	// Route is asked of each ClientHello; nil means that all TLS is ended here. Where it says so, the client gets no answer:
	// Pass takes the connection over. It should return soon, and is required with Route.
	Route Route
	Pass  func(s Stream)

	underway
	turns turns
}

func orDefault(d, initial time.Duration) time.Duration {
	if d <= 0 {
		return initial
	}
	return d
}

// Handle takes a connection over and returns at once.
func (h *Handshaker) Handle(c net.Conn) { h.begin(func() { h.handshake(c) }) }

// noCertificate is what crypto/tls says, in a text alone, where GetCertificate returns nothing; the client gets the
// alert unrecognized_name (RFC 6066 §3).
const noCertificate = "no certificates configured"

type patienceKey struct{}

// patience lengthens the deadline of one handshake.
type patience struct {
	conn             net.Conn
	handshake, issue time.Duration
	opening          *opening
}

func (p *patience) extend(d time.Duration) {
	_ = p.conn.SetDeadline(time.Now().Add(d)) // fails on a closed connection only
}

// HelloArrived is a GetConfigForClient: it tells the Handshaker that the ClientHello is there, also where a session is
// resumed and no certificate is asked for. It ends the handshake where the connection goes to somebody else.
func HelloArrived(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	p, ok := hello.Context().Value(patienceKey{}).(*patience)
	if !ok {
		return nil, nil
	}
	if err := p.opening.decide(hello); err != nil {
		return nil, err
	}
	p.opening.turn.take()
	p.extend(p.handshake)
	return nil, nil
}

// issuing gives the handshake that ctx belongs to the time that issuing a certificate takes.
func issuing(ctx context.Context) {
	if p, ok := ctx.Value(patienceKey{}).(*patience); ok {
		p.extend(p.issue)
	}
}

func (h *Handshaker) handshake(c net.Conn) {
	p := &patience{conn: c, handshake: orDefault(h.HandshakeTimeout, 10*time.Second), issue: orDefault(h.IssueTimeout, 60*time.Second)}
	p.extend(orDefault(h.HelloTimeout, 5*time.Second))
	p.opening = h.newOpening(c)
	secure := tls.Server(p.opening, h.Config)
	err := secure.HandshakeContext(context.WithValue(context.Background(), patienceKey{}, p))
	p.opening.turn.end()
	handshakeDone(c, err == nil)
	passed := errors.Is(err, errPassedOn)
	if err == nil || passed {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		h.report(c, resultOf(err), err)
		_ = c.Close()
		return
	}
	if passed {
		h.report(c, "passed", nil)
		h.Pass(p.opening.stream)
		return
	}
	h.deliver(c, secure)
}

func (h *Handshaker) deliver(c net.Conn, secure *tls.Conn) {
	sink := h.Sinks[secure.ConnectionState().NegotiatedProtocol]
	if sink == nil {
		_ = secure.Close() // such as acme-tls/1: the handshake was all there is to it (RFC 8737 §3)
		return
	}
	h.report(c, "ok", nil)
	sink.ServeConn(secure)
}

func resultOf(err error) string {
	switch {
	case isTimeout(err):
		return "timeout"
	case errors.Is(err, errBusy), errors.Is(err, errUnknownName), strings.Contains(err.Error(), noCertificate):
		return "refused"
	}
	return "failed"
}

func (h *Handshaker) report(c net.Conn, result string, err error) {
	if h.OnResult != nil {
		h.OnResult(result)
	}
	if h.Log != nil && err != nil {
		h.Log.Debug("TLS handshake", slog.String("client", c.RemoteAddr().String()), slog.String("result", result), slog.Any("error", err))
	}
}
