package tlsbridge

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// preflightError is a failure that no CA has had a part in.
type preflightError struct{ error }

func (e *preflightError) Unwrap() error { return e.error }

const preflightTime = 2 * time.Second

// Preflight looks whether a name leads to this machine, before an order for it is spent.
type Preflight struct {
	Addresses []netip.Addr // that names may lead to; empty means those of this machine
	// Resolve looks a name up; nil means the system's resolver.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
}

// check returns why a name's validation would fail.
func (p *Preflight) check(ctx context.Context, name string) error {
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, preflightTime)
	defer cancel()
	found, err := p.resolve(ctx, strings.TrimPrefix(name, "*."))
	if err != nil {
		return fmt.Errorf("before the order: %s cannot be looked up: %w", name, err)
	}
	for _, address := range found {
		if p.isOurs(ctx, address.Unmap().WithZone("")) {
			return nil
		}
	}
	return fmt.Errorf("before the order: %s leads to %v, and that is none of our addresses (acme.addresses)", name, found)
}

func (p *Preflight) resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	if p.Resolve != nil {
		return p.Resolve(ctx, name)
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

func (p *Preflight) isOurs(ctx context.Context, address netip.Addr) bool {
	if len(p.Addresses) > 0 {
		return slices.Contains(p.Addresses, address)
	}
	return isLocal(ctx, address)
}

// isLocal reports whether this machine has an address: then the kernel answers it from that same one. Nothing is sent. To list
// the addresses would need netlink, which the service's sandbox denies.
func isLocal(ctx context.Context, address netip.Addr) bool {
	if address.IsUnspecified() {
		return false
	}
	var dialer net.Dialer
	const discard = 9
	conn, err := dialer.DialContext(ctx, "udp", netip.AddrPortFrom(address, discard).String())
	if err != nil {
		return false // there is no way to it
	}
	defer func() { _ = conn.Close() }() // nothing was written
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	return ok && local.AddrPort().Addr().Unmap().WithZone("") == address
}
