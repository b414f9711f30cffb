package frontend

import (
	"net"
	"net/http"
)

// Tunnel takes over a connection that is none of HTTP: carry copies what goes over it, and returns when that has ended. It
// counts as a tunnel, and has the time that Drain gives tunnels; when that is over, the connection is closed under
// carry, which must return soon after. Tunnel returns at once. After Run or Drain have
// ended it closes the connection, and carry is never called.
func (s *Server) Tunnel(c net.Conn, carry func()) {
	known := s.known.newConnection(c)
	known.state.Store(int32(http.StateHijacked))
	s.handlers.Add(1)
	s.tunneling.Add(1)
	s.known.add(known)
	if s.plain.queue.hasEnded() { // asked after it is known: either closeAll finds it, or it finds that closeAll has begun
		s.endTunnel(known)
		return
	}
	go func() {
		defer s.endTunnel(known)
		carry()
	}()
}

func (s *Server) endTunnel(c *connection) {
	_ = c.Close() // which removes it; what cannot be closed is closed already
	s.tunneling.Add(-1)
	s.handlers.Add(-1)
}
