// Package repair makes requests fit an upstream that knows itself by another name or place than its visitors do, and its answers
// fit the visitors: the rows of rules.Repair, carried out. It knows no network and keeps no state but its plans.
package repair

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"cutover/rules"
)

// Plan is what a row of upstreams says of repairs, made ready. It is immutable. A nil Plan changes no request, and of answers what
// the contract of Answer says.
type Plan struct {
	row               rules.Repair
	own               []rules.Authority // by which the upstream knows itself: send_host and own_hosts
	request, response rules.HeaderEdits
}

// New returns the plan of a row; nil if it says nothing. What rules.ValidateRepair would refuse is left out.
func New(row *rules.Repair) *Plan {
	if row.IsNothing() {
		return nil
	}
	p := &Plan{row: *row}
	p.own, _ = rules.ParseOwnHosts(row.OwnHosts)
	if host, err := rules.ParseAuthority(row.Host); err == nil {
		p.own = append(p.own, host)
	}
	p.request, _ = rules.ParseHeaderEdits(row.RequestHeaders)
	p.response, _ = rules.ParseHeaderEdits(row.ResponseHeaders)
	return p
}

// Plans has a plan for each upstream that needs one, made once for each pointer. The zero value is ready; any number of
// goroutines may use it at once.
type Plans struct {
	made atomic.Pointer[map[*rules.Upstream]*Plan]
}

// For returns the plan of an upstream, which is one of all; those of others that are no longer there are forgotten.
func (p *Plans) For(u *rules.Upstream, all []*rules.Upstream) *Plan {
	if u.Repair.IsNothing() {
		return nil
	}
	if made := p.made.Load(); made != nil {
		if plan, ok := (*made)[u]; ok {
			return plan
		}
	}
	return p.make(u, all)
}

func (p *Plans) make(u *rules.Upstream, all []*rules.Upstream) *Plan {
	next := map[*rules.Upstream]*Plan{u: New(&u.Repair)}
	if made := p.made.Load(); made != nil {
		for _, other := range all {
			if plan, ok := (*made)[other]; ok {
				next[other] = plan
			}
		}
	}
	p.made.Store(&next) // one of two that do so at once is made again when it is asked for
	return next[u]
}

// Paths is the path of a request as its visitor sees it and as the target does, both as they stand in a request line.
type Paths struct {
	Visitor, Target string
	stripped        bool // strip_prefix was taken off
}

// ErrClimbs says that a path would leave the prefix that is put before it.
var ErrClimbs = errors.New("the path leads out of the prefix that the upstream puts before it")

// Paths returns what a target is asked for. Bytes stay as they are: prefixes are taken off and put on at the border of a segment. A
// path without the prefix, and one that leads out of it, passes without being stripped; one that leads out of add_prefix, which may
// be all that keeps the visitor in a folder, is an error.
func (p *Plan) Paths(visitor string) (Paths, error) {
	visitor = orRoot(visitor)
	paths := Paths{Visitor: visitor, Target: visitor}
	if p == nil || !strings.HasPrefix(visitor, "/") {
		return paths, nil // "*" of OPTIONS
	}
	if rest, ok := cutPrefix(visitor, p.row.StripPrefix); ok && p.row.StripPrefix != "" && !rules.Climbs(rest) {
		paths.Target, paths.stripped = orRoot(rest), true
	}
	if p.row.AddPrefix != "" {
		if rules.Climbs(paths.Target) {
			return paths, ErrClimbs
		}
		paths.Target = p.row.AddPrefix + paths.Target
	}
	return paths, nil
}

// cutPrefix cuts a prefix off at the border of a segment: what is left is empty or begins with a slash.
func cutPrefix(path, prefix string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(path, prefix)
	return rest, ok && (rest == "" || rest[0] == '/')
}

func orRoot(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

// Request makes a request, whose path has been set, that of the target: its Host, its cookies, and the headers that the row
// names. X-Forwarded-Prefix says what the target does not see of the visitor's path; what a trusted proxy has said of it, which is
// all that may still be there, comes before.
func (p *Plan) Request(out *http.Request, paths Paths) {
	if p == nil {
		return
	}
	if p.row.Host != "" {
		out.Host = p.row.Host
	}
	if paths.stripped {
		out.Header["X-Forwarded-Prefix"] = []string{outerPrefix(out.Header["X-Forwarded-Prefix"]) + p.row.StripPrefix}
	}
	if p.row.CookiePrefix != "" {
		p.returnCookies(out.Header)
	}
	edit(out.Header, &p.request)
}

// outerPrefix joins the prefixes that proxies before us have taken off, the outermost first.
func outerPrefix(lines []string) string {
	var prefix strings.Builder
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			if part = strings.TrimRight(strings.TrimSpace(part), "/"); strings.HasPrefix(part, "/") {
				prefix.WriteString(part)
			}
		}
	}
	return prefix.String()
}

func edit(header http.Header, edits *rules.HeaderEdits) {
	for _, name := range edits.Remove {
		delete(header, name)
	}
	for _, field := range edits.Set {
		header[field.Name] = []string{field.Value}
	}
	for _, field := range edits.Add {
		header[field.Name] = append(header[field.Name], field.Value)
	}
}
