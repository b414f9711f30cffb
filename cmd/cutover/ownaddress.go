package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"cutover/rules"
	"cutover/systemd"
)

// ownAddresses knows where this process itself is reached, which no target may lead to: a request would go round for ever. It takes
// for its own only what surely is: another program may listen on the same port of another address.
type ownAddresses struct {
	listeners []ownListener
	sockets   []string // in the file system
	folder    string   // of sockets that are all its own
	// addresses returns those of the machine, and lookUp those of a name.
	addresses func() ([]net.Addr, error)
	lookUp    func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ownListener is a socket that systemd handed over.
type ownListener struct {
	netip.AddrPort
	onlyIPv6 bool // of a wildcard
}

func newOwnAddresses(sockets systemd.Sockets, folder string) *ownAddresses {
	own := &ownAddresses{folder: folder, addresses: net.InterfaceAddrs, lookUp: net.DefaultResolver.LookupNetIP}
	for _, name := range []string{systemd.HTTP, systemd.HTTPS, systemd.Admin} {
		for _, listener := range sockets[name] {
			switch at := listener.Addr().(type) {
			case *net.TCPAddr:
				address := at.AddrPort()
				own.listeners = append(own.listeners, ownListener{netip.AddrPortFrom(address.Addr().Unmap().WithZone(""), address.Port()), isOnlyIPv6(listener)})
			case *net.UnixAddr:
				own.sockets = append(own.sockets, at.Name)
			}
		}
	}
	return own
}

// isOnlyIPv6 reports whether a socket on :: takes no IPv4; where the kernel does not say, it is taken to.
func isOnlyIPv6(listener net.Listener) (only bool) {
	socket, ok := listener.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		value, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		only = err == nil && value != 0
	})
	return only
}

// ownError says that a target leads to this process.
type ownError struct{ target, listener string }

func (e *ownError) Error() string {
	return fmt.Sprintf("url %s leads to Cutover itself, which listens on %s: name the address of the program that is to answer", e.target, e.listener)
}

// refuse returns why a target must not serve. It knows addresses as they are written, and asks nobody about names.
func (o *ownAddresses) refuse(t *rules.Target) error {
	source, err := rules.ParseTarget(t.URL)
	if err != nil || source.Kind != rules.SourceAddress {
		return nil // others are looked at elsewhere
	}
	if source.Address.Network == "unix" {
		return o.refuseSocket(t.URL, source.Address.Dial)
	}
	at, err := netip.ParseAddrPort(source.Address.Dial)
	if err != nil {
		return nil // a name
	}
	return o.refuseAddress(t.URL, at)
}

func (o *ownAddresses) refuseSocket(target, path string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path // it is not there yet
	}
	if filepath.Dir(real) == filepath.Clean(o.folder) {
		return &ownError{target, real}
	}
	there, err := os.Stat(real)
	for _, socket := range o.sockets {
		here, hereErr := os.Stat(socket)
		if socket == real || err == nil && hereErr == nil && os.SameFile(there, here) {
			return &ownError{target, socket}
		}
	}
	return nil
}

func (o *ownAddresses) refuseAddress(target string, at netip.AddrPort) error {
	address := at.Addr().Unmap().WithZone("")
	switch {
	case address == netip.IPv4Unspecified(): // as the kernel has it for whoever connects
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case address == netip.IPv6Unspecified():
		address = netip.IPv6Loopback()
	}
	for _, listener := range o.listeners {
		if listener.Port() == at.Port() && o.takes(listener, address) {
			return &ownError{target, listener.String()}
		}
	}
	return nil
}

// takes reports whether a connection to an address surely comes to a listener.
func (o *ownAddresses) takes(listener ownListener, address netip.Addr) bool {
	switch listener.Addr() {
	case address:
		return true
	case netip.IPv4Unspecified():
		return address.Is4() && o.isLocal(address)
	case netip.IPv6Unspecified():
		return (address.Is6() || !listener.onlyIPv6) && o.isLocal(address)
	}
	return false
}

func (o *ownAddresses) isLocal(address netip.Addr) bool {
	if address.IsLoopback() {
		return true
	}
	list, err := o.addresses()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(list, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr().Unmap().WithZone("") == address
	})
}

// check looks at a target that somebody wants to write, and at the addresses of its name. A doubt is what he should know about one
// that may be right nevertheless.
func (o *ownAddresses) check(ctx context.Context, target string) (doubt string, err error) {
	if err := o.refuse(&rules.Target{URL: target}); err != nil {
		return "", err
	}
	host, port, ok := hostOfTarget(target)
	if !ok {
		return "", nil
	}
	list, err := o.lookUp(ctx, "ip", host)
	if err != nil {
		return fmt.Sprintf("%s: the name %s cannot be looked up now, and a target that has no address gets no requests: %v", target, host, err), nil
	}
	for _, address := range list {
		address = address.Unmap()
		if err := o.refuseAddress(target+" ("+address.String()+")", netip.AddrPortFrom(address, port)); err != nil {
			return "", err
		}
	}
	return "", nil
}

// hostOfTarget returns the name that a target's addresses have; false if it has none that package net would look up.
func hostOfTarget(target string) (host string, port uint16, ok bool) {
	source, err := rules.ParseTarget(target)
	if err != nil {
		return "", 0, false // the rules say so
	}
	dial := source.Address.Dial
	if source.Kind == rules.SourceDNS {
		dial = net.JoinHostPort(source.Name, source.Port)
	}
	host, text, err := net.SplitHostPort(dial)
	if err != nil || source.Address.Network != "tcp" {
		return "", 0, false
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if _, notName := netip.ParseAddr(host); err != nil || notName == nil {
		return "", 0, false
	}
	return host, uint16(number), true
}
