package rules

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// compiler turns rows into entries and notes what is wrong with them. A row that makes no sense is served by its last
// good version, if there is one.
type compiler struct {
	previous  *View // may be nil
	upstreams []*Upstream
	names     nameEditor
	problems  problemSet     // its own
	homes     map[Ref]string // its own: the key at which the last good version of a bad row serves
	parsed    map[string]string
	known     [2]string // upstreams that are there: of the last good rule, v1 and v2
	// lastGood finds the entry that was made from a row before, and the key at which it is.
	lastGood func(Ref) (key string, e entry, ok bool)
}

// maxParsed bounds how many texts of conditions are remembered.
const maxParsed = 1000

// placed is an entry and where it is found.
type placed struct {
	host, path string
	entry      entry
}

func (c *compiler) report(table, row, host, reason string, serving bool) {
	p := Problem{Table: table, Row: row, Host: host, Reason: reason, Serving: serving}
	c.problems[p.key()] = p
}

// rule returns where a row of rules is found; false if it is not in force.
func (c *compiler) rule(row *Rule) (placed, bool) {
	p, err := c.goodRule(row)
	if err != nil {
		return c.fallBack(Ref{"rules", row.ID}, row.Host, err.Error(), row.Enabled)
	}
	return p, row.Enabled
}

func (c *compiler) goodRule(row *Rule) (placed, error) {
	pattern, err := row.check()
	if err != nil {
		return placed{}, err
	}
	conditions, err := c.conditions(row.Conditions)
	if err != nil {
		return placed{}, err
	}
	starts, ends, err := parseSpan(row.StartsAt, row.EndsAt)
	if err != nil {
		return placed{}, err
	}
	for i, name := range [2]string{row.V1, row.V2} {
		if name == c.known[i] {
			continue
		}
		upstream, ok := findUpstream(c.upstreams, name)
		if !ok {
			return placed{}, unknownUpstream(name)
		}
		c.known[i] = upstream.Name
	}
	return placed{hostPart(pattern), pathPart(row.Match, row.Path), entry{
		id: row.ID, exact: row.Match == KindExact, conditions: conditions, starts: starts, ends: ends,
		percent: math.Round(row.Percent*1e6) / 1e6, address: row.Sticky == StickyAddress, v1: c.names.number(row.V1), v2: c.names.number(row.V2),
	}}, nil
}

type unknownUpstream string

func (name unknownUpstream) Error() string {
	return strconv.Quote(string(name)) + " is not an upstream (run: SELECT name FROM upstreams;)"
}

// conditions is parseConditions with a memory: many rows have the same.
func (c *compiler) conditions(text string) (string, error) {
	if text == "{}" {
		return "", nil
	}
	if known, ok := c.parsed[text]; ok {
		return known, nil
	}
	parsed, err := parseConditions(text)
	if err == nil && len(c.parsed) < maxParsed {
		if c.parsed == nil {
			c.parsed = map[string]string{}
		}
		c.parsed[strings.Clone(text)] = parsed
	}
	return parsed, err
}

// redirect returns where a row of redirects is found; false if it is not in force.
func (c *compiler) redirect(row *Redirect) (placed, bool) {
	p, err := goodRedirect(row)
	if err != nil {
		return c.fallBack(Ref{"redirects", row.ID}, row.Host, err.Error(), row.Enabled)
	}
	return p, row.Enabled
}

func goodRedirect(row *Redirect) (placed, error) {
	pattern, to, err := row.check()
	if err != nil {
		return placed{}, err
	}
	e := entry{id: row.ID, redirect: true, exact: row.Match == KindExact, status: row.Status, keepPath: row.KeepPath, keepQuery: row.KeepQuery, to: to}
	return placed{hostPart(pattern), pathPart(row.Match, row.Path), e}, nil
}

// fallBack reports a bad row and returns its last good version. What is switched off is off, good or bad.
func (c *compiler) fallBack(ref Ref, host, reason string, enabled bool) (placed, bool) {
	key, e, ok := "", entry{}, false
	if enabled {
		key, e, ok = c.lastGood(ref)
	}
	c.report(ref.Table, strconv.FormatInt(ref.ID, 10), host, reason, ok)
	if !ok {
		return placed{}, false
	}
	c.homes[ref], e.stale = key, true
	host, path := splitKey(key)
	return placed{host, path, e}, true
}

// host returns the policy of a row of hosts and the host of its place. That of a bad row is the last good one, if there is
// one.
func (c *compiler) host(row *Host) (host string, p place, ok bool) {
	pattern, err := patternKey(row.Host)
	host = hostPart(pattern)
	invalid := row.Validate()
	if invalid == nil {
		return host, policyOf(row), true
	}
	name := row.Host
	if err == nil {
		name, p = pattern, c.previous.place(host, "")
	}
	c.report("hosts", name, row.Host, invalid.Error(), p.policy)
	return host, p, p.policy
}

// policyOf returns what a good row of hosts says.
func policyOf(row *Host) place {
	p := place{policy: true, https: row.HTTPS == HTTPSRedirect, hsts: row.HSTS, passthrough: row.TLS == TLSPassthrough}
	name, isFile := row.CertificateFile()
	switch {
	case isFile:
		p.certificate, p.file = certificateFile, strings.Clone(name)
	case row.Certificate == CertificateAny:
		p.certificate = certificateAny
	case row.Certificate == CertificateOff:
		p.certificate = certificateOff
	}
	return p
}

// fallback returns the default that is in force.
func (c *compiler) fallback(value Default) Default {
	last := Default("")
	if c.previous != nil {
		last = c.previous.fallback
	}
	delete(c.problems, problemKey{"meta", "default"})
	switch value {
	case DefaultV1, DefaultRefuse:
		return value
	case "":
		return DefaultV1
	}
	c.report("meta", "default", "", "default must be v1 or refuse", last != "")
	return last
}

// setUpstreams checks all upstreams. One that is as it was keeps its pointer.
func (c *compiler) setUpstreams(rows []Upstream) {
	for key := range c.problems {
		if key.table == "upstreams" || key.table == "targets" {
			delete(c.problems, key)
		}
	}
	last := c.lastTargets()
	c.known = [2]string{}
	c.upstreams = make([]*Upstream, 0, len(rows))
	for _, row := range rows {
		targets := c.targets(row.Targets, last)
		before, known := c.previous.Upstream(row.Name)
		if err := row.Validate(); err != nil {
			c.report("upstreams", row.Name, "", err.Error(), known)
			row = row.withoutTypos()
			switch {
			case known:
				row = *before
			case row.Validate() != nil:
				continue
			}
		}
		row.Targets = targets
		if row.ProxyProtocol == "" {
			row.ProxyProtocol = ProxyProtocolOff
		}
		if known && sameUpstream(before, &row) {
			row = *before
			c.upstreams = append(c.upstreams, before)
			continue
		}
		c.upstreams = append(c.upstreams, &row)
	}
	slices.SortFunc(c.upstreams, func(a, b *Upstream) int { return strings.Compare(a.Name, b.Name) })
}

func sameUpstream(a, b *Upstream) bool {
	return sameSettings(a, b) && slices.Equal(a.Targets, b.Targets)
}

func (c *compiler) lastTargets() map[int64]Target {
	last := map[int64]Target{}
	for _, upstream := range c.previous.Upstreams() {
		for _, target := range upstream.Targets {
			last[target.ID] = target
		}
	}
	return last
}

func (c *compiler) targets(rows []Target, last map[int64]Target) []Target {
	targets := make([]Target, 0, len(rows))
	for _, row := range rows {
		if err := row.Validate(); err != nil {
			good, ok := last[row.ID]
			c.report("targets", strconv.FormatInt(row.ID, 10), "", err.Error(), ok)
			if !ok {
				continue
			}
			row = good
		}
		targets = append(targets, row)
	}
	return targets
}

// parseSpan returns starts_at and ends_at in Unix milliseconds, 0 for none.
func parseSpan(startsAt, endsAt string) (starts, ends int64, err error) {
	if startsAt == "" && endsAt == "" {
		return 0, 0, nil
	}
	from, err := parseTime("starts_at", startsAt)
	if err != nil {
		return 0, 0, err
	}
	to, err := parseTime("ends_at", endsAt)
	return millis(from), millis(to), err
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
