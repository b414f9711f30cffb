package repair

import (
	"net/netip"
	"strings"

	"cutover/rules"
)

// reference is a URL of an answer in parts, which put together again are the text that it was.
type reference struct {
	origin    string // scheme and authority with what divides them; empty for none
	scheme    string // in lower case; empty for none
	authority string
	path      string // up to ? or #
	rest      string
}

// read takes apart what names a host by http or https, and what begins at the root of one. It refuses what browsers read otherwise
// than RFC 3986 does: they leave control characters out, and take a backslash for a slash.
func read(text string) (reference, bool) {
	var r reference
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return r, false
	}
	begin := 0
	for _, start := range [...]string{"http://", "https://", "//"} {
		if len(text) >= len(start) && strings.EqualFold(text[:len(start)], start) {
			begin, r.scheme = len(start), strings.TrimSuffix(start[:len(start)-2], ":")
		}
	}
	if begin == 0 && (!strings.HasPrefix(text, "/") || leavesHost(text)) {
		return r, false
	}
	end := len(text)
	if i := strings.IndexAny(text[begin:], "?#"); i >= 0 {
		end = begin + i
	}
	slash := begin
	if begin > 0 {
		if slash = end; strings.Contains(text[begin:end], "/") {
			slash = begin + strings.IndexByte(text[begin:end], '/')
		}
	}
	r.origin, r.authority, r.path, r.rest = text[:slash], text[begin:slash], text[slash:end], text[end:]
	return r, true
}

// leavesHost reports whether a browser takes a path without a host for a host.
func leavesHost(path string) bool {
	return len(path) > 1 && path[0] == '/' && (path[1] == '/' || path[1] == '\\')
}

// url repairs a URL of an answer. What it cannot read, and what leads elsewhere, it returns as it is.
func (a *answer) url(text string) string {
	r, ok := read(text)
	if !ok {
		return text
	}
	origin := r.origin
	if origin != "" {
		switch a.whose(&r) {
		case ours:
			if origin = "//" + a.visit.Authority; r.scheme != "" {
				origin = a.visit.Scheme + ":" + origin
			}
		case visitors: // v1 behind another proxy often has the scheme wrong, and may have it so on purpose
		default:
			return text
		}
	}
	path, mapped := a.path(r.path)
	switch {
	case mapped && origin == "" && leavesHost(path):
		return text // it would lead to another host
	case !mapped && origin == r.origin:
		return text
	}
	return origin + path + r.rest
}

// owner is whom a URL's authority belongs to.
type owner int

const (
	foreign  owner = iota
	ours           // the upstream's, under a name that the visitor does not use
	visitors       // under the name that he has asked for
)

func (a *answer) whose(r *reference) owner {
	named, err := rules.ParseAuthority(r.authority)
	if err != nil {
		return foreign
	}
	scheme := r.scheme
	if scheme == "" {
		scheme = a.visit.Scheme
	}
	standard := named.Port == "" || named.Port == portOf(scheme)
	named.Port = portOr(named.Port, scheme)
	switch {
	case a.plan.owns(named, scheme):
		return ours
	case a.isVisitors(named, standard):
		return visitors
	case a.isTargets(named):
		return ours
	}
	return foreign
}

func portOf(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

func portOr(port, scheme string) string {
	if port == "" {
		return portOf(scheme)
	}
	return port
}

// owns reports whether send_host or own_hosts names an authority, whose port is written out. An entry without a port is that of its
// scheme.
func (p *Plan) owns(named rules.Authority, scheme string) bool {
	if p == nil {
		return false
	}
	for _, own := range p.own {
		if own.Host == named.Host && portOr(own.Port, scheme) == named.Port {
			return true
		}
	}
	return false
}

// isVisitors reports whether the visitor asked for an authority; which of http and https it is does not matter.
func (a *answer) isVisitors(named rules.Authority, standard bool) bool {
	if named.Host != a.visit.Host {
		return false
	}
	own, err := rules.ParseAuthority(a.visit.Authority)
	if err != nil {
		return false
	}
	port := portOr(own.Port, a.visit.Scheme)
	return port == named.Port || standard && port == portOf(a.visit.Scheme)
}

// isTargets reports whether an authority is the target's own address. A public one counts only where the row speaks of places: a
// target that insists on its own name would otherwise be asked for the same again and again.
func (a *answer) isTargets(named rules.Authority) bool {
	source, err := rules.ParseTarget(a.visit.Target)
	if err != nil || source.Address.Protocol == rules.ProtocolFCGI || source.Address.Network != "tcp" {
		return false
	}
	host, port := source.Name, source.Port
	switch source.Kind {
	case rules.SourceAddress:
		address, err := rules.ParseAuthority(source.Address.Dial)
		if err != nil {
			return false
		}
		host, port = address.Host, address.Port
	case rules.SourceDNS:
	default:
		return false
	}
	if named.Port != port || named.Host != host && (!isLoopback(named.Host) || !isLoopback(host)) {
		return false
	}
	return isPrivate(host) || a.plan.places()
}

// places reports whether the row says that the upstream is elsewhere than its visitors see it.
func (p *Plan) places() bool {
	return p != nil && (len(p.own) > 0 || p.row.StripPrefix != "" || p.row.AddPrefix != "")
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// isPrivate reports whether the public cannot reach a host.
func isPrivate(host string) bool {
	address, err := netip.ParseAddr(host)
	if err != nil {
		return isLoopback(host)
	}
	shared := netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, 0}), 10) // RFC 6598
	return address.IsLoopback() || address.IsPrivate() || address.IsLinkLocalUnicast() || shared.Contains(address)
}

// refresh repairs the URL of a Refresh header as browsers find it (HTML, "shared declarative refresh steps"): 5; url=/x, 5,
// URL='/x', 5 /x. Without one it stays as it is.
func (a *answer) refresh(value string) string {
	at := strings.TrimLeft(value, " \t")
	rest := strings.TrimLeft(strings.TrimLeft(at, "0123456789"), ".0123456789")
	if len(rest) == len(at) || rest == "" || strings.IndexByte(";, \t", rest[0]) < 0 {
		return value
	}
	rest = strings.TrimLeft(rest, " \t")
	if rest != "" && (rest[0] == ';' || rest[0] == ',') {
		rest = strings.TrimLeft(rest[1:], " \t")
	}
	named := withoutName(rest)
	link, quote := unquote(named)
	begin := len(value) - len(named) + len(quote)
	repaired := a.url(link)
	if quote != "" && strings.Contains(repaired, quote) {
		return value
	}
	return value[:begin] + repaired + value[begin+len(link):]
}

// withoutName cuts "url=" off.
func withoutName(text string) string {
	if len(text) < 3 || !strings.EqualFold(text[:3], "url") {
		return text
	}
	rest, ok := strings.CutPrefix(strings.TrimLeft(text[3:], " \t"), "=")
	if !ok {
		return text
	}
	return strings.TrimLeft(rest, " \t")
}

// unquote returns what stands in quotes; the second of them may be missing.
func unquote(text string) (inner, quote string) {
	if text == "" || text[0] != '"' && text[0] != '\'' {
		return text, ""
	}
	quote = text[:1]
	inner, _, _ = strings.Cut(text[1:], quote)
	return inner, quote
}
