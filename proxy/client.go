package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// peerOf returns the address at the other end of the connection; invalid if there is none.
func peerOf(r *http.Request) netip.Addr {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return address.Addr().Unmap().WithZone("")
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
	hops := forwardedFor(r.Header["X-Forwarded-For"])
	for _, hop := range slices.Backward(hops) {
		address, ok := parseHop(hop)
		if !ok {
			return client // what cannot be read cannot be trusted, nor anything left of it
		}
		client = address
		if !h.trusts(address) {
			return client
		}
	}
	return client
}

// forwardedFor splits every line of X-Forwarded-For into its hops, in order.
func forwardedFor(lines []string) []string {
	var hops []string
	for _, line := range lines {
		for hop := range strings.SplitSeq(line, ",") {
			hops = append(hops, strings.TrimSpace(hop))
		}
	}
	return hops
}

// parseHop reads an address, with or without brackets and port.
func parseHop(hop string) (netip.Addr, bool) {
	if address, err := netip.ParseAddr(strings.Trim(hop, "[]")); err == nil {
		return address.Unmap().WithZone(""), true
	}
	if address, err := netip.ParseAddrPort(hop); err == nil {
		return address.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}
