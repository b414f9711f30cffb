package rules

import (
	"net/http"
	"strings"
)

// Match decides a request. It allocates nothing where a rule without conditions decides and the path is in normal
// form.
func (v *View) Match(r *Request) Decision {
	d := Decision{Bucket: -1, HTTPS: HTTPSOff}
	if v == nil {
		d.toDefault(DefaultV1)
		return d
	}
	if policy := v.policies[r.Host]; policy != nil {
		d.HTTPS, d.HSTS = policy.HTTPS, policy.HSTS
	}
	path := normalizePath(r.Path)
	switch e := v.find(r, path, &d.VaryCookie); {
	case e == nil:
		d.toDefault(v.fallback)
	case e.redirect != nil:
		d.toRedirect(e, r, path)
	default:
		d.toRule(e.rule, r, v.lineage)
	}
	return d
}

// find looks at the exact host, then at the wildcard of its parent, then at "*".
func (v *View) find(r *Request, path string, asked *bool) *entry {
	if e := v.exact[r.Host].find(r, path, asked); e != nil {
		return e
	}
	if dot := strings.IndexByte(r.Host, '.'); dot >= 0 {
		if e := v.parents[r.Host[dot+1:]].find(r, path, asked); e != nil {
			return e
		}
	}
	return v.any.find(r, path, asked)
}

func (d *Decision) toDefault(fallback Default) {
	d.Reason = ReasonDefault
	if fallback == DefaultRefuse {
		d.Action, d.Status = Misdirected, http.StatusMisdirectedRequest
		return
	}
	d.Action, d.Version, d.Upstream = Forward, V1, V1
}

func (d *Decision) toRedirect(e *entry, r *Request, path string) {
	d.RedirectID, d.Reason, d.Status = e.redirect.ID, ReasonRedirect, e.redirect.Status
	if e.destination == nil {
		d.Action = Gone
		return
	}
	d.Action = Moved
	rest, query := "", ""
	if e.redirect.KeepPath && e.redirect.Match != KindExact {
		rest = path[e.prefix:]
	}
	if e.redirect.KeepQuery {
		query = r.RawQuery
	}
	d.Location = e.destination.location(rest, query)
}

func (d *Decision) toRule(rule *Rule, r *Request, lineage string) {
	d.Action, d.RuleID, d.Reason = Forward, rule.ID, ReasonRule
	d.Percent, d.Sticky = rule.Percent, rule.Sticky
	if rule.Percent > 0 && rule.Percent < 100 {
		d.split(r, lineage)
	}
	if rule.Percent >= 100 || (d.Split() && getsV2(d.Bucket, rule.Percent)) {
		d.Version, d.Upstream = V2, rule.V2
		return
	}
	d.Version, d.Upstream = V1, rule.V1
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
