package tlsbridge

import (
	"context"
	"errors"
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
	ours, err := p.ours()
	if err != nil {
		return fmt.Errorf("before the order: the addresses of this machine are not known: %w", err)
	}
	for _, address := range found {
		if slices.Contains(ours, address.Unmap().WithZone("")) {
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

func (p *Preflight) ours() ([]netip.Addr, error) {
	if len(p.Addresses) > 0 {
		return p.Addresses, nil
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var ours []netip.Addr
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(network.IP); ok {
				ours = append(ours, ip.Unmap())
			}
		}
	}
	if len(ours) == 0 {
		return nil, errors.New("there are none")
	}
	return ours, nil
}
