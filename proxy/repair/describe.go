package repair

import (
	"fmt"
	"strings"
)

// Describe says in one line what the plan does to a visit; empty where that is nothing.
func (p *Plan) Describe(visit *Visit) string {
	if p == nil {
		return ""
	}
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if p.row.Host != "" {
		add("Host %s", p.row.Host)
	}
	if visit.Paths.Target != visit.Paths.Visitor {
		add("path %s", visit.Paths.Target)
	}
	if names := p.names(); names != "" {
		add("%s in answers becomes %s://%s", names, visit.Scheme, visit.Authority)
	}
	if p.row.CookieDomain != "" {
		add("Domain of cookies %s", p.row.CookieDomain)
	}
	if p.row.CookiePrefix != "" {
		add("cookies %sNAME", p.row.CookiePrefix)
	}
	if n := p.request.Len(); n > 0 {
		add("%d of request_headers", n)
	}
	if n := p.response.Len(); n > 0 {
		add("%d of response_headers", n)
	}
	return strings.Join(parts, ", ")
}

// names lists the first of the upstream's own hosts, and says how many there are beyond.
func (p *Plan) names() string {
	const most = 3
	var list []string
	for _, own := range p.own[:min(len(p.own), most)] {
		name := own.Host
		if own.Port != "" {
			name += ":" + own.Port
		}
		list = append(list, name)
	}
	if more := len(p.own) - most; more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return strings.Join(list, ", ")
}
