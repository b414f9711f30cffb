package frontend

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
)

// Sink takes a connection over, and closes it in the end. ServeConn returns when the connection is handed over, which
// needs Run; before Run it waits, and after Run or Drain have ended it closes the connection.
type Sink interface{ ServeConn(c net.Conn) }

// Plain is the sink for HTTP/1.1 in clear text.
func (s *Server) Plain() Sink {
	return sink(func(c net.Conn) { s.take(s.plain, &plainConn{s.known.newConnection(c)}) })
}

// HTTP1 is the sink for HTTP/1.1 over TLS; its connections are *tls.Conn, with the handshake done.
func (s *Server) HTTP1() Sink {
	return sink(func(c net.Conn) {
		secure, ok := c.(*tls.Conn)
		if !ok {
			_ = c.Close() // a mistake of the caller's: without TLS it must not pass for https
			return
		}
		s.take(s.http1, &tlsConn{connection: s.known.newConnection(c), secure: secure})
	})
}

// HTTP2 is the sink for HTTP/2 over TLS; its connections are *tls.Conn, with the handshake done. That the TLS version
// and suite are fit for HTTP/2 (RFC 9113 §9.2) is the business of the handshake's configuration.
func (s *Server) HTTP2() Sink {
	return sink(func(c net.Conn) {
		secure, ok := c.(*tls.Conn)
		if !ok {
			_ = c.Close() // only TLS negotiates HTTP/2 here
			return
		}
		state := secure.ConnectionState()
		s.take(s.http2, s.known.newFramedConn(c, &state))
	})
}

type sink func(c net.Conn)

func (f sink) ServeConn(c net.Conn) { f(c) }

// take makes a connection known before net/http sees it, so that Drain loses sight of none.
func (s *Server) take(r *role, c tracked) {
	known := c.tracked()
	s.known.add(known)
	if known.framed != nil && s.Draining() {
		known.framed.announce()
	}
	if !r.queue.deliver(c) {
		s.known.remove(known)
		_ = known.Conn.Close()
	}
}

type connectionKey struct{}

// withConnection lets a request's context lead to its connection.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, c.(tracked).tracked()) // every queue has only our own
}

// connectionOf returns the connection that a request came on.
func connectionOf(r *http.Request) *connection {
	return r.Context().Value(connectionKey{}).(*connection) // withConnection has put it there
}

func baseContext(ctx context.Context) func(net.Listener) context.Context {
	return func(net.Listener) context.Context { return ctx }
}
