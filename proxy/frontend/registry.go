package frontend

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// registry knows every connection from the moment it is handed over until it is closed.
type registry struct {
	mu      sync.Mutex
	open    map[*connection]struct{}
	streams int // that an HTTP/2 connection may have under way
	// headTimeout is how long a request's head over HTTP/2 may take.
	headTimeout time.Duration
	// trusted says whose HTTP/2 connections are not looked at for floods; nil for nobody's.
	trusted func(netip.Addr) bool
	// onRefused is what connections tell; may be nil.
	onRefused func(reason string, client net.Addr)
}

// newConnection returns a connection that is not yet known.
func (r *registry) newConnection(c net.Conn) *connection {
	known := &connection{Conn: c, registry: r, onRefused: r.onRefused}
	known.since.Store(time.Now().UnixNano())
	known.state.Store(int32(http.StateNew))
	return known
}

// trusts reports whether a connection is a trusted proxy's.
func (r *registry) trusts(c net.Conn) bool {
	if r.trusted == nil {
		return false
	}
	remote, ok := c.RemoteAddr().(*net.TCPAddr)
	return ok && r.trusted(remote.AddrPort().Addr().Unmap().WithZone(""))
}

func (r *registry) add(c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[*connection]struct{}{}
	}
	r.open[c] = struct{}{}
}

func (r *registry) remove(c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

func (r *registry) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

func (r *registry) list() []*connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*connection, 0, len(r.open))
	for c := range r.open {
		list = append(list, c)
	}
	return list
}

// count fills in all of Stats that connections tell.
func (r *registry) count() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	stats := Stats{Open: len(r.open)}
	for c := range r.open {
		switch http.ConnState(c.state.Load()) {
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
