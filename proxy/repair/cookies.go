package repair

import (
	"net/http"
	"net/textproto"
	"strings"
)

// special are the beginnings of cookies' names that browsers hold to rules (RFC 6265bis §4.1.3); a longer one comes before one
// that it begins with.
func special(name string) string {
	for _, beginning := range [...]string{"__Host-Http-", "__Host-", "__Secure-", "__Http-"} {
		if len(name) >= len(beginning) && strings.EqualFold(name[:len(beginning)], beginning) {
			return name[:len(beginning)]
		}
	}
	return ""
}

// withPrefix puts cookie_prefix before a name, behind what browsers hold to rules. A cookie without a name has none to change, and
// one that would then be held to other rules keeps its own.
func (p *Plan) withPrefix(name string) string {
	beginning := special(name)
	prefixed := beginning + p.row.CookiePrefix + name[len(beginning):]
	if name == "" || special(prefixed) != beginning {
		return name
	}
	return prefixed
}

// withoutPrefix undoes withPrefix; false for what it has not made. A name that would begin otherwise than the browser saw it is
// none: others could have set it who cannot set one that begins so.
func (p *Plan) withoutPrefix(name string) (string, bool) {
	beginning := special(name)
	rest, ok := strings.CutPrefix(name[len(beginning):], p.row.CookiePrefix)
	own := beginning + rest
	return own, ok && own != "" && special(own) == beginning
}

// returnCookies hands over the cookies that the upstream has set under their own names, and others as they are: those of the same
// name not at all.
func (p *Plan) returnCookies(header http.Header) {
	own := map[string]bool{}
	eachCookie(header["Cookie"], func(name string) {
		if name, ok := p.withoutPrefix(name); ok {
			own[name] = true
		}
	})
	if len(own) == 0 {
		return
	}
	lines := header["Cookie"][:0:0]
	for _, line := range header["Cookie"] {
		if line = p.returned(line, own); line != "" {
			lines = append(lines, line)
		}
	}
	header["Cookie"] = lines
}

func eachCookie(lines []string, see func(name string)) {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ";") {
			see(cookieName(part))
		}
	}
}

// cookieName returns the name of a cookie; empty where there is none, as in "value" and "=value".
func cookieName(part string) string {
	name, _, ok := strings.Cut(part, "=")
	if !ok {
		return ""
	}
	return textproto.TrimString(name)
}

func (p *Plan) returned(line string, own map[string]bool) string {
	parts := strings.Split(line, ";")
	kept := parts[:0]
	for _, part := range parts {
		name := cookieName(part)
		if plain, ok := p.withoutPrefix(name); ok {
			part = strings.Replace(part, name, plain, 1)
		} else if own[name] {
			continue
		}
		kept = append(kept, part)
	}
	return textproto.TrimString(strings.Join(kept, ";"))
}

func (p *Plan) repairsCookies() bool {
	return p.row.CookiePrefix != "" || p.row.StripPrefix != "" || p.row.AddPrefix != "" || len(p.own) > 0
}

// cookie repairs a line of Set-Cookie: its name, and of its attributes Domain and Path. All others stay byte for byte, as unknown
// ones do.
func (a *answer) cookie(line string) string {
	parts := strings.Split(line, ";")
	name := cookieName(parts[0])
	toHost := strings.EqualFold(special(name), "__Host-") || strings.EqualFold(special(name), "__Host-Http-")
	kept, placed := parts[:1], toHost
	for _, part := range parts[1:] {
		key, value, _ := strings.Cut(part, "=")
		switch value = textproto.TrimString(value); strings.ToLower(textproto.TrimString(key)) {
		case "domain":
			if a.ownsDomain(value) {
				if toHost || !a.isWithin(a.plan.row.CookieDomain) {
					continue
				}
				part = key + "=" + a.plan.row.CookieDomain
			}
		case "path":
			placed = toHost || strings.HasPrefix(value, "/")
			if path := a.cookiePath(value); !toHost && path != value {
				part = key + "=" + path
			}
		}
		kept = append(kept, part)
	}
	if !placed {
		kept = a.place(kept)
	}
	if name != "" {
		kept[0] = strings.Replace(kept[0], name, a.plan.withPrefix(name), 1)
	}
	return strings.Join(kept, ";")
}

// ownsDomain reports whether a Domain is one of the upstream's own hosts, or above one of them and not above the visitor's.
func (a *answer) ownsDomain(domain string) bool {
	domain = strings.ToLower(strings.TrimPrefix(domain, "."))
	if domain == "" {
		return false
	}
	for _, own := range a.plan.own {
		if own.Host == domain || strings.HasSuffix(own.Host, "."+domain) && !a.isWithin(domain) {
			return true
		}
	}
	return false
}

// isWithin reports whether a browser would take a cookie of a domain from the visitor's host.
func (a *answer) isWithin(domain string) bool {
	domain = strings.ToLower(domain)
	return domain != "" && (a.visit.Host == domain || strings.HasSuffix(a.visit.Host, "."+domain))
}

// cookiePath returns where a cookie of a path of the target's belongs for the visitor. One from above add_prefix holds for all that
// the upstream has.
func (a *answer) cookiePath(path string) string {
	if !strings.HasPrefix(path, "/") {
		return path // browsers take none such
	}
	if add := a.plan.row.AddPrefix; add != "" {
		if _, above := cutPrefix(add, strings.TrimSuffix(path, "/")); above {
			return orRoot(a.strip())
		}
	}
	if path == "/" && a.strip() != "" {
		return a.strip() // with a slash it would not hold for /shop itself
	}
	mapped, _ := a.path(path)
	return mapped
}

// place adds a Path to a cookie that has none, unless the one that a browser gives it is right (RFC 6265 §5.1.4).
func (a *answer) place(parts []string) []string {
	if a.strip() == "" && a.plan.row.AddPrefix == "" {
		return parts
	}
	wanted := a.cookiePath(defaultPath(a.visit.Paths.Target))
	if wanted == defaultPath(a.visit.Paths.Visitor) || strings.ContainsFunc(wanted, func(c rune) bool { return c <= ' ' || c == ';' || c == 0x7f }) {
		return parts
	}
	return append(parts, " Path="+wanted)
}

func defaultPath(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}
	return "/"
}
