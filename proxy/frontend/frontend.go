// Package frontend serves HTTP on connections that somebody else has accepted. It has a sink for each role: clear text,
// HTTP/1.1 over TLS, HTTP/2 over TLS. When the process is to end, Drain is a lame duck: it goes on serving while it tells
// clients, in each protocol's own way, to come back on another connection.
package frontend

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options says what is served, and how patient the server is. Only Handler is required.
type Options struct {
	Handler           http.Handler
	ReadHeaderTimeout time.Duration // for a request's head; 0 means 10 s
	IdleTimeout       time.Duration // between two requests; 0 means 120 s
	MaxHeaderBytes    int           // of a request's head; 0 means 64 KiB (net/http allows 4 KiB more)
	// IdleGrace is how long Drain lets idle connections speak once more; 0 means 2 s.
	IdleGrace time.Duration
	// GoAwayDelay is how long after its warning HTTP/2 may open streams; 0 means 1 s. It should be a round trip or more.
	GoAwayDelay time.Duration
	// TunnelGrace is how long Drain lets upgraded connections (WebSocket) go on; 0 means 2 s.
	TunnelGrace time.Duration
	// Arriving counts connections that are on their way to a sink, for Drain to wait for; nil means none.
	Arriving func() int
	Log      *slog.Logger // nil discards
}

func orDefault[T comparable](value, initial T) T {
	var zero T
	if value == zero {
		return initial
	}
	return value
}

// Server serves the connections that its sinks get. Use New.
type Server struct {
	options             Options
	plain, http1, http2 *role
	draining            atomic.Bool
	requests            atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]*connection
}

// connection is what is known of an open connection.
type connection struct {
	state http.ConnState
	since time.Time // it has been in that state
}

// role is an http.Server of its own: one that served clear text first would offer HTTP/2 and fail to speak it.
type role struct {
	server *http.Server
	queue  *queue
}

// New returns a server. Nothing runs until Run does.
func New(o Options) *Server {
	s := &Server{options: o, conns: map[net.Conn]*connection{}}
	s.plain, s.http1, s.http2 = s.newRole(), s.newRole(), s.newRole()
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true) // TLS ends before it, so that GOAWAY can be put between frames
	s.http2.server.Protocols = protocols
	s.http2.server.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 250}
	return s
}

func (s *Server) newRole() *role {
	log := s.options.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &role{queue: newQueue(s.arrive, s.refuse), server: &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: orDefault(s.options.ReadHeaderTimeout, 10*time.Second),
		IdleTimeout:       orDefault(s.options.IdleTimeout, 120*time.Second),
		MaxHeaderBytes:    orDefault(s.options.MaxHeaderBytes, 64<<10),
		ConnState:         s.noteState,
		ConnContext:       withConnection,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// Run serves until ctx ends, then closes whatever is still open.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range s.roles() {
		group.Go(func() error {
			if err := r.server.Serve(r.queue); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		s.closeAll()
		return nil
	})
	return group.Wait()
}

func (s *Server) roles() []*role { return []*role{s.plain, s.http1, s.http2} }

// closeAll ends every server and connection; tunnels too, which net/http no longer knows.
func (s *Server) closeAll() {
	for _, r := range s.roles() {
		_ = r.queue.Close()
		_ = r.server.Close() // what cannot be closed is closed already
	}
	s.closeWhere(func(*connection) bool { return true })
}

// Draining reports whether Drain has been called.
func (s *Server) Draining() bool { return s.draining.Load() }

// Stats counts connections by what they do.
type Stats struct {
	Open     int // all of them
	New      int // nothing came yet
	Active   int
	Idle     int
	Tunnels  int
	Requests int // in flight, those in tunnels included
}

// Stats counts connections by what they do.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := Stats{Open: len(s.conns), Requests: int(s.requests.Load())}
	for _, c := range s.conns {
		switch c.state {
		case http.StateNew:
			stats.New++
		case http.StateActive:
			stats.Active++
		case http.StateIdle:
			stats.Idle++
		case http.StateHijacked:
			stats.Tunnels++
		}
	}
	return stats
}

// noteState is http.Server's ConnState. A hijacked connection stays known until its handler returns.
func (s *Server) noteState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateClosed {
		delete(s.conns, c)
		return
	}
	s.conns[c] = &connection{state: state, since: time.Now()}
}

func (s *Server) arrive(c net.Conn) { s.noteState(c, http.StateNew) }

func (s *Server) refuse(c net.Conn) { s.noteState(c, http.StateClosed) }

// serve is every role's handler.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	defer s.requests.Add(-1)
	c, _ := r.Context().Value(connectionKey{}).(net.Conn)
	defer s.forgetTunnel(c)
	if framed, ok := c.(*framedConn); ok && r.TLS == nil {
		r.TLS = framed.state
	}
	if r.ProtoMajor == 1 {
		w = &lameWriter{ResponseWriter: w, draining: &s.draining}
	}
	s.options.Handler.ServeHTTP(w, r)
}

// forgetTunnel drops a hijacked connection: its handler has returned, so the tunnel has ended.
func (s *Server) forgetTunnel(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.conns[c]; known != nil && known.state == http.StateHijacked {
		delete(s.conns, c)
	}
}

type connectionKey struct{}

func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

// Sink takes connections over: it closes them, and returns at once.
type Sink interface{ ServeConn(c net.Conn) }

// Plain is the sink for HTTP/1.1 in clear text.
func (s *Server) Plain() Sink { return s.plain.queue }

// HTTP1 is the sink for HTTP/1.1 over TLS; its connections are *tls.Conn, with the handshake done.
func (s *Server) HTTP1() Sink { return s.http1.queue }

// HTTP2 is the sink for HTTP/2 over TLS; its connections are *tls.Conn, with the handshake done.
func (s *Server) HTTP2() Sink { return framing{s} }

// framing puts the frame-aware connection between TLS and HTTP/2.
type framing struct{ server *Server }

func (f framing) ServeConn(c net.Conn) {
	secure, ok := c.(*tls.Conn)
	if !ok {
		_ = c.Close() // only TLS negotiates HTTP/2 here
		return
	}
	state := secure.ConnectionState()
	framed := &framedConn{Conn: c, state: &state}
	if f.server.Draining() {
		framed.announce()
	}
	f.server.http2.queue.ServeConn(framed)
}
