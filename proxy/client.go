package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"cutover/proxy/upstream"
)

// peerOf returns the address at the other end of the connection; invalid if there is none.
func peerOf(r *http.Request) netip.Addr {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return address.Addr().Unmap().WithZone("")
}

// announced returns whom the PROXY protocol names to a target: the client, with its port if it is the peer itself, and our end of
// its connection.
func (e *exchange) announced() upstream.Client {
	v := upstream.Client{From: netip.AddrPortFrom(e.client, 0)}
	if peer, err := netip.ParseAddrPort(e.in.RemoteAddr); err == nil && peer.Addr().Unmap().WithZone("") == e.client {
		v.From = netip.AddrPortFrom(e.client, peer.Port())
	}
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
	client := peerOf(r)
	if !h.trusts(client) {
		return client
	}
	return rightmostUntrusted(r.Header["X-Forwarded-For"], client, h.trusts)
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
