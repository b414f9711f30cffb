package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"cutover/proxy/upstream"
)

// peerOf returns the other end of the connection, its address in normal form; invalid if there is none.
func peerOf(r *http.Request) netip.AddrPort {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(peer.Addr().Unmap().WithZone(""), peer.Port())
}

// from returns the client, with its port if it is the peer itself.
func (e *exchange) from() netip.AddrPort {
	if e.peer.IsValid() && e.peer.Addr() == e.client {
		return e.peer
	}
	return netip.AddrPortFrom(e.client, 0)
}

// announced returns whom the PROXY protocol names to a target: the client, and our end of its connection.
func (e *exchange) announced() upstream.Client {
	v := upstream.Client{From: e.from()}
	if here, ok := e.in.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		v.To = netip.AddrPortFrom(here.AddrPort().Addr().Unmap().WithZone(""), here.AddrPort().Port())
	}
	return v
}

func (h *Handler) trusts(address netip.Addr) bool {
	return address.IsValid() && slices.ContainsFunc(h.Trusted, func(p netip.Prefix) bool { return p.Contains(address) })
}

// clientOf returns the client's address: the rightmost hop of X-Forwarded-For that is no trusted proxy, if the peer is
// one. What stands left of it was written by a stranger.
func (h *Handler) clientOf(r *http.Request) netip.Addr {
	peer := peerOf(r).Addr()
	return h.clientBehind(peer, h.trusts(peer), r.Header)
}

func (h *Handler) clientBehind(peer netip.Addr, trusted bool, header http.Header) netip.Addr {
	if !trusted {
		return peer
	}
	return rightmostUntrusted(header["X-Forwarded-For"], peer, h.trusts)
}

// rightmostUntrusted walks the lines of X-Forwarded-For from the peer back towards the client. A hop that cannot be
// read ends the walk, since neither it nor anything left of it can be trusted.
func rightmostUntrusted(lines []string, peer netip.Addr, trusts func(netip.Addr) bool) netip.Addr {
	client := peer
	for _, line := range slices.Backward(lines) {
		for more := true; more; {
			var hop string
			line, hop, more = cutLast(line)
			address, ok := parseHop(hop)
			if !ok {
				return client
			}
			if client = address; !trusts(address) {
				return client
			}
		}
	}
	return client
}

// cutLast splits off what follows the last comma.
func cutLast(line string) (before, last string, more bool) {
	if i := strings.LastIndexByte(line, ','); i >= 0 {
		return line[:i], line[i+1:], true
	}
	return "", line, false
}

// parseHop reads an address, with or without brackets and port.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.Trim(hop, " \t")
	if inner, ok := strings.CutPrefix(hop, "["); ok && strings.HasSuffix(inner, "]") {
		hop = strings.TrimSuffix(inner, "]")
	}
	if address, err := netip.ParseAddr(hop); err == nil {
		return address.Unmap().WithZone(""), true
	}
	if address, err := netip.ParseAddrPort(hop); err == nil {
		return address.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}
