// Package frontend serves HTTP on connections that somebody else has accepted, and can stop without losing a request.
//
// It has a sink for each role: clear text, HTTP/1.1 over TLS, HTTP/2 over TLS. Each role is an http.Server of its own,
// since one that begins with clear text would offer HTTP/2 and then fail to speak it. When the process is to end, Drain
// is a lame duck: it goes on serving while it tells clients, in each protocol's own way, to come back on another
// connection. http.Server.Shutdown is its last step: net/http drops a request that it has just read when it finds
// itself shutting down, and sends a single GOAWAY, which refuses what a client sent before it arrived.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Options says what is served, and how patient the server is. Only Handler is required.
type Options struct {
	Handler http.Handler
	// ReadHeaderTimeout bounds the time for a request's head, and for a first byte on a new connection; 0 means 10 s.
	ReadHeaderTimeout time.Duration
	// IdleTimeout is how long a connection may rest between two requests; 0 means 120 s.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds a request's head; 0 means 64 KiB: twice what nginx takes, with room for large cookies, and a
	// sixteenth of net/http's own bound, which a flood of connections could fill. net/http allows 4 KiB more.
	MaxHeaderBytes int
	// IdleGrace is how long Drain leaves idle connections to speak once more; 0 means 2 s. Those that have been idle for
	// longest go first, in its last quarter. It should be some round trips.
	IdleGrace time.Duration
	// GoAwayDelay is how long after its warning an HTTP/2 connection may open streams; 0 means 1 s. It should be a round
	// trip or more.
	GoAwayDelay time.Duration
	// PartingGrace is how long a tunnel or an event stream may take to end when Drain has asked it to, see Ending; 0 means
	// 5 s.
	PartingGrace time.Duration
	// MaxStreams bounds the requests under way on an HTTP/2 connection; 0 means 128.
	MaxStreams int
	// Stall is how long a client may take nothing of what waits for it; 0 means 5 min.
	Stall time.Duration
	// BodyGrace is how long what is left of a request's body may still take when its answer has ended or, over HTTP/1.1 and
	// without full duplex, has begun; 0 means 10 s.
	BodyGrace time.Duration
	// OnRefused is told why a client is cut off, by one of the words of this package; client may be nil. May be nil.
	OnRefused func(reason string, client net.Addr)
	// Trusted reports whether an address is a proxy's that may speak for many clients on one HTTP/2 connection: it may send as
	// many frames as it likes. nil means none is.
	Trusted func(netip.Addr) bool
	// Arriving counts connections that are on their way to a sink, for Drain to wait for; nil means none.
	Arriving func() int
	// Log gets what net/http reports, at debug level and at most 10 lines a second, panics of the handler as errors, and what
	// a drain cuts; nil discards.
	Log *slog.Logger
}

// Server serves the connections that its sinks get. Use New.
type Server struct {
	options             Options
	log                 *slog.Logger
	plain, http1, http2 *role
	known               registry
	draining            atomic.Bool
	drained             chan struct{} // closed when a Drain has ended
	drainedOnce         sync.Once
	hurry               atomic.Pointer[time.Time] // of Hurry, until the drain has seen it
	handlers            atomic.Int64              // calls of the handler that have not returned
	tunneling           atomic.Int64              // those of them that have hijacked their connection
	streaming           atomic.Int64              // those of them that answer with an event stream
}

// role is an http.Server and the listener that feeds it.
type role struct {
	server *http.Server
	queue  *queue
}

// New returns a server with the defaults filled in. Nothing runs until Run does.
func New(o Options) *Server {
	o.ReadHeaderTimeout = orDefault(o.ReadHeaderTimeout, 10*time.Second)
	o.IdleTimeout = orDefault(o.IdleTimeout, 120*time.Second)
	o.MaxHeaderBytes = orDefault(o.MaxHeaderBytes, 64<<10)
	o.IdleGrace = orDefault(o.IdleGrace, 2*time.Second)
	o.GoAwayDelay = orDefault(o.GoAwayDelay, time.Second)
	o.PartingGrace = orDefault(o.PartingGrace, 5*time.Second)
	o.MaxStreams = orDefault(o.MaxStreams, 128)
	o.Stall = orDefault(o.Stall, 5*time.Minute)
	o.BodyGrace = orDefault(o.BodyGrace, 10*time.Second)
	s := &Server{
		options: o, log: o.Log, drained: make(chan struct{}),
		known: registry{onRefused: o.OnRefused, streams: o.MaxStreams, headTimeout: o.ReadHeaderTimeout, trusted: o.Trusted},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.plain, s.http1, s.http2 = s.newRole(s.serveHTTP1), s.newRole(s.serveHTTP1), s.newRole(s.serveHTTP2)
	s.plain.server.Protocols.SetHTTP1(true)
	s.http1.server.Protocols.SetHTTP1(true)
	s.http2.server.Protocols.SetUnencryptedHTTP2(true) // TLS ends before it, so that GOAWAY can be put between frames
	// Each stream has a timer so, which its end stops; without one, a deadline that is set as a stream ends would start one that
	// nothing stops. No answer takes a century.
	s.http2.server.WriteTimeout = 100 * 365 * 24 * time.Hour
	s.http2.server.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: o.MaxStreams, CountError: s.countError}
	return s
}

func orDefault[T comparable](value, initial T) T {
	var zero T
	if value == zero {
		return initial
	}
	return value
}

func (s *Server) newRole(handler http.HandlerFunc) *role {
	return &role{queue: newQueue(), server: &http.Server{
		Handler:           handler,
		Protocols:         new(http.Protocols),
		ReadHeaderTimeout: s.options.ReadHeaderTimeout,
		IdleTimeout:       s.options.IdleTimeout,
		MaxHeaderBytes:    s.options.MaxHeaderBytes,
		ConnState:         noteState,
		ConnContext:       withConnection,
		ErrorLog:          newErrorLog(s.log),
	}}
}

func (s *Server) roles() []*role { return []*role{s.plain, s.http1, s.http2} }

// Run serves until ctx ends or a Drain has ended, then closes whatever is still open and waits for the handlers to return.
// Then their requests are cancelled, but not before: a handler must not answer for no reason that the client could know. It
// can be called once. An error means that a role could not serve, or that a handler goes on for more than 5 s though its
// connection is closed.
func (s *Server) Run(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var serving sync.WaitGroup
	failed := make(chan error, len(s.roles()))
	for _, r := range s.roles() {
		serving.Go(func() {
			if err := r.serve(base); err != nil {
				failed <- err
			}
		})
	}
	serving.Go(func() { s.watchStalls(base) })
	var err error
	select {
	case <-ctx.Done():
	case <-s.drained:
	case err = <-failed:
	}
	s.closeAll()
	cancel()
	serving.Wait()
	return errors.Join(err, s.awaitHandlers())
}

// endTimeout is how long a handler may go on after its connection was closed and its request cancelled.
const endTimeout = 5 * time.Second

func (s *Server) awaitHandlers() error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(endTimeout); !s.empty(); <-ticker.C {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d requests do not end though they are cancelled", s.handlers.Load())
		}
	}
	return nil
}

// serve feeds net/http until the role is shut down or closed.
func (r *role) serve(ctx context.Context) error {
	server := r.server
	server.BaseContext = baseContext(ctx)
	err := server.Serve(r.queue)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// closeAll ends every role and connection; tunnels too, which net/http no longer knows. Connections are cut before
// net/http closes them, since its own way waits for clients that do not read.
func (s *Server) closeAll() {
	for _, r := range s.roles() {
		_ = r.queue.Close()
	}
	for _, c := range s.known.list() {
		c.cut()
	}
	for _, r := range s.roles() {
		_ = r.server.Close() // what cannot be closed is closed already
	}
}

// empty reports whether no connection is open and no handler runs.
func (s *Server) empty() bool { return s.known.len() == 0 && s.handlers.Load() == 0 }

// Draining reports whether Drain has been called.
func (s *Server) Draining() bool { return s.draining.Load() }

// Stats counts connections by what they do.
type Stats struct {
	Open     int // all connections
	New      int // those without a request yet
	Active   int // those with a request in flight
	Idle     int // those between two requests
	Tunnels  int // those that were hijacked: WebSockets and the like
	Streams  int // requests that are answered with an event stream; HTTP/2 may have many on a connection
	Requests int // other requests in flight, tunnels left out
}

// Stats counts what is open now.
func (s *Server) Stats() Stats {
	stats := s.known.count()
	stats.Streams = int(s.streaming.Load())
	stats.Requests = max(0, int(s.handlers.Load()-s.tunneling.Load())-stats.Streams) // each is read at a moment of its own
	return stats
}
