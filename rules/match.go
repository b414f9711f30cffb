package rules

import (
	"net/http"
	"runtime"
	"strings"
)

// Match decides a request. It allocates nothing where a rule decides and the path is in normal form.
func (v *View) Match(r *Request) (d Decision) {
	d.Bucket, d.HTTPS = -1, HTTPSOff
	if v == nil {
		d.toDefault(DefaultV1)
		return d
	}
	path := normalizePath(r.Path)
	var whole place
	whole.read(v.lookup(r.Host, ""))
	if whole.policy || v.wildcards > 0 {
		d.setPolicy(v.policy(r.Host, &whole))
	}
	var m match
	switch {
	case !v.find(&m, &whole, r, path, &d.VaryCookie):
		d.toDefault(v.fallback)
	case m.entry.redirect:
		d.toRedirect(&m, r, path)
	default:
		d.toRule(&m.entry, r, v)
	}
	runtime.KeepAlive(v)
	return d
}

func (d *Decision) setPolicy(p place, _ string) {
	d.HSTS = p.hsts
	if p.https {
		d.HTTPS = HTTPSRedirect
	}
}

// match is the entry that decides, and how long the path is at which it was found.
type match struct {
	entry  entry
	prefix int
}

// find looks at the exact host, then at the wildcard of its parent, then at "*".
func (v *View) find(m *match, whole *place, r *Request, path string, asked *bool) bool {
	if v.findIn(m, r.Host, whole, r, path, asked) {
		return true
	}
	if dot := strings.IndexByte(r.Host, '.'); dot >= 0 {
		var parent place
		parent.read(v.lookup(r.Host[dot:], ""))
		if v.findIn(m, r.Host[dot:], &parent, r, path, asked) {
			return true
		}
	}
	var everywhere place
	everywhere.read(v.lookup("*", ""))
	return v.findIn(m, "*", &everywhere, r, path, asked)
}

// findIn looks at the exact path, then at every prefix, the longest first.
func (v *View) findIn(m *match, host string, whole *place, r *Request, path string, asked *bool) bool {
	if whole.deep > 0 {
		for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], '/') {
			if end > int(whole.longest) {
				continue
			}
			var at place
			at.read(v.lookup(host, path[:end]))
			if v.firstInForce(m, at.entries, end == len(path), r, asked) {
				m.prefix = end
				return true
			}
		}
	}
	m.prefix = 0
	return v.firstInForce(m, whole.entries, false, r, asked)
}

// firstInForce reads the entries of a place until one holds. Entries for an exact path only count where the whole path
// was found.
func (v *View) firstInForce(m *match, entries string, exact bool, r *Request, asked *bool) bool {
	c := cursor{rest: entries}
	for !c.done() {
		m.entry.read(&c)
		if (m.entry.exact && !exact) || !m.entry.inForce(v.at) {
			continue
		}
		if m.entry.conditions == "" || holds(m.entry.conditions, r, asked) {
			return !c.damaged
		}
	}
	return false
}

func (d *Decision) toDefault(fallback Default) {
	d.Reason = ReasonDefault
	if fallback == DefaultRefuse {
		d.Action, d.Status = Misdirected, http.StatusMisdirectedRequest
		return
	}
	d.Action, d.Version, d.Upstream = Forward, V1, V1
}

func (d *Decision) toRedirect(m *match, r *Request, path string) {
	e := &m.entry
	d.RedirectID, d.Reason, d.Status = e.id, ReasonRedirect, e.status
	if e.status == http.StatusGone {
		d.Action = Gone
		return
	}
	d.Action = Moved
	rest, query := "", ""
	if e.keepPath && !e.exact {
		rest = path[m.prefix:]
	}
	if e.keepQuery {
		query = r.RawQuery
	}
	d.Location = e.to.location(rest, query)
}

func (d *Decision) toRule(e *entry, r *Request, v *View) {
	d.Action, d.RuleID, d.Reason = Forward, e.id, ReasonRule
	d.Percent, d.Sticky = e.percent, StickyCookie
	if e.address {
		d.Sticky = StickyAddress
	}
	if e.percent > 0 && e.percent < 100 {
		d.split(r, v.lineage)
	}
	if e.percent >= 100 || (d.Split() && getsV2(d.Bucket, e.percent)) {
		d.Version, d.Upstream = V2, v.names.at(e.v2)
		return
	}
	d.Version, d.Upstream = V1, v.names.at(e.v1)
}

// split finds out who the visitor is, and the bucket.
func (d *Decision) split(r *Request, lineage string) {
	d.Reason = ReasonSplit
	if r.Identify != nil {
		d.Visitor = r.Identify(r, d.Sticky)
	}
	d.Bucket = bucket(lineage, r.Host, d.Visitor.ID)
	if d.Sticky == StickyCookie {
		d.VaryCookie = true
	}
}
