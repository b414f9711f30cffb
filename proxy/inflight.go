package proxy

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// networkRequests is the reason for which a request is answered 429 whose client network has too many under way.
const networkRequests = "network_requests"

var errRequests = errors.New("this client network has too many requests under way")

// inFlight counts the requests under way by client network. What it remembers is what is under way. The zero value is ready.
type inFlight struct {
	mu       sync.Mutex
	networks map[netip.Addr]int
	most     int // networks it had since the map was made
}

// fewNetworks are those whose room in memory is not worth giving back.
const fewNetworks = 64

// enter counts a request, unless its network has as many as it may.
func (f *inFlight) enter(network netip.Addr, limit int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.networks[network] >= limit {
		return false
	}
	if f.networks == nil {
		f.networks = map[netip.Addr]int{}
	}
	f.networks[network]++
	f.most = max(f.most, len(f.networks))
	return true
}

func (f *inFlight) leave(network netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.networks[network]--; f.networks[network] > 0 {
		return
	}
	delete(f.networks, network)
	if len(f.networks) == 0 && f.most > fewNetworks { // a map keeps the room for the most that it ever had
		f.networks, f.most = nil, 0
	}
}

// enter counts a request for its client's network until leave, or says why it cannot be let in.
func (h *Handler) enter(e *exchange) *problem {
	if h.Limits.NetworkRequests <= 0 || !e.client.IsValid() || h.Limits.Exempt != nil && h.Limits.Exempt(e.client) {
		return nil
	}
	network := networkOf(e.client)
	if !h.inFlight.enter(network, h.Limits.NetworkRequests) {
		e.refused = networkRequests
		return later(time.Second, errRequests)
	}
	e.network = network
	return nil
}

func (h *Handler) leave(e *exchange) {
	if e.network.IsValid() {
		h.inFlight.leave(e.network)
	}
}

// clientAddr is the client as a net.Addr, without a port: behind a trusted proxy there is none.
func (e *exchange) clientAddr() net.Addr {
	if !e.client.IsValid() {
		return nil
	}
	return &net.IPAddr{IP: e.client.AsSlice()}
}
