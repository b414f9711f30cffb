package tlsbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
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
	OnResult         func(result string) // is told "ok", "timeout", "refused" or "failed"; may be nil

	mu   sync.Mutex
	open map[chan struct{}]struct{} // of each handshake under way: it is closed at the end
}

func orDefault(d, initial time.Duration) time.Duration {
	if d <= 0 {
		return initial
	}
	return d
}

// Handle takes a connection over and returns at once.
func (h *Handshaker) Handle(c net.Conn) {
	done := make(chan struct{})
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == nil {
		h.open = map[chan struct{}]struct{}{}
	}
	h.open[done] = struct{}{}
	go func() {
		defer h.ended(done)
		h.handshake(c)
	}()
}

func (h *Handshaker) ended(done chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, done)
	close(done)
}

// Pending counts the handshakes under way.
func (h *Handshaker) Pending() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open)
}

// Wait waits for the handshakes under way, until ctx ends. Others may begin meanwhile, and are not waited for.
func (h *Handshaker) Wait(ctx context.Context) error {
	h.mu.Lock()
	open := slices.Collect(maps.Keys(h.open))
	h.mu.Unlock()
	for _, done := range open {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// noCertificate is what crypto/tls says, in a text alone, where GetCertificate returns nothing; the client gets the
// alert unrecognized_name (RFC 6066 §3).
const noCertificate = "no certificates configured"

type patienceKey struct{}

// patience lengthens the deadline of one handshake.
type patience struct {
	conn             net.Conn
	handshake, issue time.Duration
}

func (p *patience) extend(d time.Duration) {
	_ = p.conn.SetDeadline(time.Now().Add(d)) // fails on a closed connection only
}

// HelloArrived is a GetConfigForClient: it tells the Handshaker that the ClientHello is there, also where a session is
// resumed and no certificate is asked for.
func HelloArrived(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if p, ok := hello.Context().Value(patienceKey{}).(*patience); ok {
		p.extend(p.handshake)
	}
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
	secure := tls.Server(c, h.Config)
	err := secure.HandshakeContext(context.WithValue(context.Background(), patienceKey{}, p))
	handshakeDone(c)
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		h.report(c, err)
		_ = c.Close()
		return
	}
	sink := h.Sinks[secure.ConnectionState().NegotiatedProtocol]
	if sink == nil {
		_ = secure.Close() // such as acme-tls/1: the handshake was all there is to it (RFC 8737 §3)
		return
	}
	h.report(c, nil)
	sink.ServeConn(secure)
}

func (h *Handshaker) report(c net.Conn, err error) {
	result := "ok"
	switch {
	case err == nil:
	case isTimeout(err):
		result = "timeout"
	case errors.Is(err, errBusy), strings.Contains(err.Error(), noCertificate):
		result = "refused"
	default:
		result = "failed"
	}
	if h.OnResult != nil {
		h.OnResult(result)
	}
	if h.Log != nil && err != nil {
		h.Log.Debug("TLS handshake", slog.String("client", c.RemoteAddr().String()), slog.String("result", result), slog.Any("error", err))
	}
}
