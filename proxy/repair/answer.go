package repair

import (
	"net/http"
)

// Visit is a request as it was when it came, and where it went.
type Visit struct {
	Scheme    string // that the visitor speaks: http or https
	Host      string // that he asked for, in normal form
	Authority string // the same as he sees it in a URL: with brackets and port where it has them
	Target    string // URL of the target that answers
	Paths     Paths
}

// Answer makes an answer's headers fit the visitor.
//
// URLs of Location, Content-Location and Refresh that name the upstream by one of its own hosts, or the target's own address, get
// the visitor's scheme and authority; their paths, those of his own host, and those without a host become what he would ask for.
// Without a plan that is so only where the target's address is one that the public cannot reach, such as 127.0.0.1. What leads
// elsewhere, and what is no such URL, stays byte for byte. Then cookies follow, and last what the row says of headers.
func (p *Plan) Answer(header http.Header, visit *Visit) {
	a := answer{p, visit}
	for _, name := range [...]string{"Location", "Content-Location"} {
		for i, value := range header[name] {
			header[name][i] = a.url(value)
		}
	}
	for i, value := range header["Refresh"] {
		header["Refresh"][i] = a.refresh(value)
	}
	if p == nil {
		return
	}
	if p.repairsCookies() {
		for i, line := range header["Set-Cookie"] {
			header["Set-Cookie"][i] = a.cookie(line)
		}
	}
	edit(header, &p.response)
}

// Concerns reports whether Answer may change a header, which costs next to nothing.
func (p *Plan) Concerns(header http.Header) bool {
	return p != nil || header["Location"] != nil || header["Content-Location"] != nil || header["Refresh"] != nil
}

// answer is one that is being repaired.
type answer struct {
	plan  *Plan // may be nil
	visit *Visit
}

// path returns the path by which the visitor asks for what the target calls path; false if he cannot, or if it is his already.
func (a *answer) path(path string) (string, bool) {
	if a.plan == nil {
		return path, false
	}
	strip, add := a.strip(), a.plan.row.AddPrefix
	if strip == "" && add == "" {
		return path, false
	}
	rest, ok := cutPrefix(path, add)
	inner, told := cutPrefix(path, strip) // a target that heeds X-Forwarded-Prefix has put it on
	if told = told && strip != ""; told {
		if add == "" {
			return path, false
		}
		if !ok {
			rest, ok = cutPrefix(inner, add)
		}
	}
	if !ok {
		return path, false
	}
	return orRoot(strip + rest), true
}

// strip returns what was taken off this request's path; empty for nothing.
func (a *answer) strip() string {
	if !a.visit.Paths.stripped {
		return ""
	}
	return a.plan.row.StripPrefix
}
