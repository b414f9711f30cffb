package rules

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Compile builds a View from rows. A row that makes no sense is reported, and previous's good version of the same row
// stays in force if there is one; previous may be nil, and one of another lineage counts as nil. now decides which rules
// have started and ended.
func Compile(rows Rows, previous *View, now time.Time) (*View, []Problem) {
	c := compiler{now: now, known: map[string]bool{}, view: newView(rows)}
	if previous != nil && previous.lineage == rows.Lineage { // else ids mean other rows
		c.previous = *previous
	}
	c.setDefault(rows.Default)
	for i := range rows.Upstreams {
		c.addUpstream(rows.Upstreams[i])
	}
	for _, row := range rows.Hosts {
		c.addHost(row)
	}
	for _, row := range rows.Redirects {
		c.addRedirect(row)
	}
	for _, row := range rows.Rules {
		c.addRule(row)
	}
	c.finish()
	return c.view, c.problems
}

type compiler struct {
	now      time.Time
	previous View
	view     *View
	known    map[string]bool // hosts that rows in force name exactly
	problems []Problem
}

func newView(rows Rows) *View {
	return &View{
		lineage: rows.Lineage, exact: map[string]*site{}, parents: map[string]*site{}, policies: map[string]*Host{},
		good: goodRows{
			rules: make(map[int64]Rule, len(rows.Rules)), redirects: make(map[int64]Redirect, len(rows.Redirects)),
			targets: map[int64]Target{}, upstreams: map[string]Upstream{}, hosts: make(map[string]Host, len(rows.Hosts)),
		},
	}
}

func (c *compiler) setDefault(value Default) {
	switch value {
	case DefaultV1, DefaultRefuse:
		c.view.fallback = value
	case "":
		c.view.fallback = DefaultV1
	default:
		c.view.fallback = c.previous.fallback
		c.report("meta", "default", "", "default must be v1 or refuse", c.previous.fallback != "")
	}
}

func (c *compiler) report(table, row, host, reason string, serving bool) {
	c.problems = append(c.problems, Problem{Table: table, Row: row, Host: host, Reason: reason, Serving: serving})
}

// addUpstream keeps the previous view's pointer if nothing that matters changed.
func (c *compiler) addUpstream(row Upstream) {
	targets := c.goodTargets(row.Targets)
	row.Targets = nil
	if err := row.Validate(); err != nil {
		last, ok := c.previous.good.upstreams[row.Name]
		c.report("upstreams", row.Name, "", err.Error(), ok)
		if !ok {
			return
		}
		row = last
	}
	c.view.good.upstreams[row.Name] = row
	row.Targets = targets
	if last, ok := c.previous.Upstream(row.Name); ok && sameUpstream(last, &row) {
		c.view.upstreams = append(c.view.upstreams, last)
		return
	}
	c.view.upstreams = append(c.view.upstreams, &row)
}

func sameUpstream(a, b *Upstream) bool {
	return a.ResponseTimeout == b.ResponseTimeout && slices.Equal(a.Targets, b.Targets)
}

func (c *compiler) goodTargets(rows []Target) []Target {
	targets := make([]Target, 0, len(rows))
	for _, row := range rows {
		if err := row.Validate(); err != nil {
			last, ok := c.previous.good.targets[row.ID]
			c.report("targets", strconv.FormatInt(row.ID, 10), "", err.Error(), ok)
			if !ok {
				continue
			}
			row = last
		}
		c.view.good.targets[row.ID] = row
		targets = append(targets, row)
	}
	return targets
}

func (c *compiler) addHost(row Host) {
	if err := row.Validate(); err != nil {
		last, ok := c.previous.good.hosts[row.Host]
		c.report("hosts", row.Host, row.Host, err.Error(), ok)
		if !ok {
			return
		}
		row = last
	}
	c.view.good.hosts[row.Host] = row
	key, _ := patternKey(row.Host) // it was validated
	c.view.policies[key] = &row
	c.known[key] = true
}

func (c *compiler) addRedirect(row Redirect) {
	stale := false
	if err := row.Validate(); err != nil {
		last, ok := c.previous.good.redirects[row.ID]
		ok = ok && row.Enabled // what is switched off is off, good or bad
		c.report("redirects", strconv.FormatInt(row.ID, 10), row.Host, err.Error(), ok)
		if !ok {
			return
		}
		row, stale = last, true
	}
	c.view.good.redirects[row.ID] = row
	if !row.Enabled {
		return
	}
	e := entry{redirect: &row, id: row.ID, stale: stale}
	if row.Status != 410 {
		e.destination, _ = parseDestination(row.ToURL) // it was validated
	}
	c.site(row.Host).add(row.Match, row.Path, e)
	c.view.counts.Redirects++
}

func (c *compiler) addRule(row Rule) {
	stale := false
	if err := c.checkRule(&row); err != "" {
		last, ok := c.previous.good.rules[row.ID]
		ok = ok && row.Enabled // what is switched off is off, good or bad
		c.report("rules", strconv.FormatInt(row.ID, 10), row.Host, err, ok)
		if !ok {
			return
		}
		row, stale = last, true
	}
	c.view.good.rules[row.ID] = row
	if !row.Enabled || !c.inForce(&row) {
		return
	}
	parsed, _ := parseConditions(row.Conditions) // it was validated
	c.site(row.Host).add(row.Match, row.Path, entry{rule: &row, id: row.ID, conditions: parsed, stale: stale})
	c.view.counts.Rules++
}

func (c *compiler) checkRule(row *Rule) string {
	if err := row.Validate(); err != nil {
		return err.Error()
	}
	for _, name := range []string{row.V1, row.V2} {
		if _, ok := c.view.good.upstreams[name]; !ok {
			return strconv.Quote(name) + " is not an upstream (run: SELECT name FROM upstreams;)"
		}
	}
	return ""
}

// inForce reports whether a rule has started and not ended, and notes when that changes.
func (c *compiler) inForce(row *Rule) bool {
	starts, _ := parseTime("", row.StartsAt) // both were validated
	ends, _ := parseTime("", row.EndsAt)
	for _, at := range []time.Time{starts, ends} {
		if at.After(c.now) && (c.view.nextChange.IsZero() || at.Before(c.view.nextChange)) {
			c.view.nextChange = at
		}
	}
	return !starts.After(c.now) && (ends.IsZero() || ends.After(c.now))
}

// site returns the place of a host's entries, and notes an exact host as known.
func (c *compiler) site(host string) *site {
	key, _ := patternKey(host) // it was validated
	if key == "*" {
		if c.view.any == nil {
			c.view.any = &site{}
		}
		return c.view.any
	}
	sites := c.view.exact
	if parent, ok := strings.CutPrefix(key, "*."); ok {
		sites, key = c.view.parents, parent
	} else {
		c.known[key] = true
	}
	if sites[key] == nil {
		sites[key] = &site{}
	}
	return sites[key]
}

func (c *compiler) finish() {
	for host := range c.known {
		if isCertifiable(host) {
			c.view.hosts = append(c.view.hosts, host)
		}
	}
	slices.Sort(c.view.hosts)
	slices.SortFunc(c.view.upstreams, func(a, b *Upstream) int { return strings.Compare(a.Name, b.Name) })
	c.view.counts.Hosts = len(c.known)
	c.view.counts.Upstreams = len(c.view.upstreams)
}
