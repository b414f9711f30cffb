package rules

import (
	"iter"
	"maps"
	"strings"
)

// Host returns the row of hosts that holds for a name in normal form, without needs, note and time; false if none does.
func (v *View) Host(name string) (Host, bool) {
	if v == nil {
		return Host{}, false
	}
	whole := readPlace(v.lookup(name, ""))
	p, key := v.policy(name, &whole)
	if !p.policy {
		return Host{}, false
	}
	row := Host{Host: key, HTTPS: HTTPSOff, HSTS: p.hsts, Certificate: v.certificateText(&p, key), TLS: TLSTerminate}
	if key[0] == '.' {
		row.Host = "*" + key
	}
	if p.https {
		row.HTTPS = HTTPSRedirect
	}
	if p.passthrough {
		row.TLS = TLSPassthrough
	}
	return row, true
}

func (v *View) certificateText(p *place, key string) string {
	switch p.certificate {
	case certificateAny:
		return CertificateAny
	case certificateOff:
		return CertificateOff
	case certificateFile:
		return CertificateFilePrefix + v.files[key]
	}
	return CertificateAuto
}

// policy returns the place whose row of hosts holds for a host, and the host of that place; one without a policy if there
// is none. whole is the host's own place.
func (v *View) policy(host string, whole *place) (p place, key string) {
	if whole.policy || v.wildcards == 0 {
		return *whole, host
	}
	if dot := strings.IndexByte(host, '.'); dot >= 0 {
		if p.read(v.lookup(host[dot:], "")); p.policy {
			return p, host[dot:]
		}
	}
	p = place{}
	p.read(v.lookup("*", ""))
	return p, "*"
}

// Allows reports whether a certificate may be asked for. host, in normal form, must be a DNS name with a dot. Then the row
// of hosts that holds for it decides: with any it may; with off it may not, nor with file, since then there is one, nor with
// passthrough, since then none is needed. With auto, and without a row, it may if an enabled rule, a redirect or a row of
// hosts names it exactly.
func (v *View) Allows(host string) bool {
	if v == nil || !isCertifiable(host) {
		return false
	}
	text := v.lookup(host, "")
	whole := readPlace(text)
	p, _ := v.policy(host, &whole)
	switch {
	case !p.policy:
		return text != ""
	case p.passthrough:
		return false
	case p.certificate == certificateAuto:
		return text != ""
	}
	return p.certificate == certificateAny
}

// AllowsWildcard reports whether a certificate for *.parent, which is good for every name one label below parent, may be
// ordered and renewed. parent must be a DNS name with a dot, and a row of hosts for *.parent itself must say auto or any, and
// not passthrough. Whoever asks for a name must never be the reason to order one: it is asked for by operators.
func (v *View) AllowsWildcard(name string) bool {
	parent, ok := strings.CutPrefix(name, "*.")
	if v == nil || !ok || !isCertifiable(parent) {
		return false
	}
	p := readPlace(v.lookup(name[1:], ""))
	return p.policy && !p.passthrough && (p.certificate == certificateAuto || p.certificate == certificateAny)
}

// Names reports whether an enabled rule, a redirect or a row of hosts names a host, in normal form, exactly.
func (v *View) Names(host string) bool { return v != nil && v.lookup(host, "") != "" }

// Hosts yields every name that is known exactly and that Allows, in no order. Names that only a wildcard allows are known
// to nobody before they are asked for.
func (v *View) Hosts() iter.Seq[string] {
	return func(yield func(string) bool) {
		for key := range v.all {
			if strings.IndexByte(key, '/') < 0 && v.Allows(key) && !yield(key) {
				return
			}
		}
	}
}

// withFile notes which file a host's certificate is in; an empty name takes it away. files is changed.
func withFile(files map[string]string, host, name string) map[string]string {
	if name == "" {
		delete(files, host)
		return files
	}
	if files == nil {
		files = map[string]string{}
	}
	files[strings.Clone(host)] = name
	return files
}

// fileDifferences yields the hosts of which two views say other files.
func fileDifferences(a, b *View, note func(key string)) {
	if maps.Equal(a.files, b.files) {
		return
	}
	for host, name := range a.files {
		if b.files[host] != name {
			note(host)
		}
	}
	for host := range b.files {
		if _, known := a.files[host]; !known {
			note(host)
		}
	}
}
