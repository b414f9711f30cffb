package rules

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Explain says in sentences what led to a decision.
func (d *Decision) Explain() []string {
	lines := d.explainMatch()
	if d.Split() {
		lines = append(lines, d.explainSplit())
	}
	if d.HTTPS == HTTPSRedirect {
		lines = append(lines, "The host's row asks for https: a request in clear text is redirected once a certificate is stored.")
	}
	if d.HSTS > 0 {
		lines = append(lines, fmt.Sprintf("Answers over https carry Strict-Transport-Security with max-age=%d, unless the upstream sends its own.", d.HSTS))
	}
	return lines
}

// Explain says in sentences what the guard does with a client.
func (g *Guard) Explain(client netip.Addr) []string {
	name := fmt.Sprintf("Guard %d (%s%s) holds", g.ID, g.Host, g.Path)
	if !g.Permits(client) {
		return []string{fmt.Sprintf("%s: it refuses the address %s, the answer is 403.", name, client)}
	}
	lines := []string{fmt.Sprintf("%s: it lets the address %s in.", name, client)}
	if g.Rate > 0 {
		lines = append(lines, fmt.Sprintf("It lets each client make %s requests a second, and %d at once; more are answered with 429.", strconv.FormatFloat(g.Rate, 'f', -1, 64), g.Burst))
	}
	if len(g.Users) > 0 {
		lines = append(lines, "It asks for the password of one of "+strings.Join(slices.Sorted(maps.Keys(g.Users)), ", ")+"; without it the answer is 401.")
	}
	return lines
}

func (d *Decision) explainMatch() []string {
	switch {
	case d.Action == Misdirected:
		return []string{"No rule and no redirect matches, and the default is to refuse: the answer is 421."}
	case d.Reason == ReasonChallenge:
		return []string{fmt.Sprintf("A CA asks for the token of an ACME client: what Cutover does not answer itself goes to v1, to the upstream %q, whatever rules and guards say.", d.Upstream)}
	case d.Reason == ReasonDefault:
		return []string{"No rule and no redirect matches; the default is v1."}
	case d.Action == Gone:
		return []string{fmt.Sprintf("Redirect %d matches: the content is gone, the answer is 410.", d.RedirectID)}
	case d.Action == Moved:
		return []string{fmt.Sprintf("Redirect %d matches: the answer is %d to %s.", d.RedirectID, d.Status, d.Location)}
	}
	return []string{fmt.Sprintf("Rule %d matches and gives v2 to %s %% of the visitors; this one gets %s, from the upstream %q.",
		d.RuleID, strconv.FormatFloat(d.Percent, 'f', -1, 64), d.Version, d.Upstream)}
}

func (d *Decision) explainSplit() string {
	known := "by the client's address"
	if d.Visitor.Returned {
		known = "by the visitor cookie"
	}
	relation := "not below"
	if d.Version == V2 {
		relation = "below"
	}
	return fmt.Sprintf("The visitor, known %s, has bucket %d of 0 to 9999, which is %s %s.",
		known, d.Bucket, relation, strconv.FormatFloat(d.Percent*(buckets/100), 'f', -1, 64))
}
