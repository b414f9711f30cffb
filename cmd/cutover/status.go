package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cutover/proxy"
	"cutover/proxy/admin"
)

func newStatusCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the daemon and its rules are",
		Long: `Show how the daemon and its rules are.

The exit code is 1 if no daemon runs, or if it is not ready for requests.`,
		Example: "  cutover status\n  cutover status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withSession(cmd, env, func(s *session) error {
				status, err := s.Status(cmd.Context())
				if err != nil {
					return err
				}
				return errors.Join(printStatus(env, &status), notReady(&status))
			})
		},
	}
}

// notReady is the error of a status that nobody wants to see.
func notReady(status *admin.Status) error {
	switch {
	case !status.Running:
		return withHint(errors.New("no daemon runs"), "systemctl start cutover")
	case !status.Ready:
		return withHint(fmt.Errorf("the daemon is not ready: %s", status.NotReady), "journalctl -u cutover -n 20")
	default:
		return nil
	}
}

func printStatus(env *environment, status *admin.Status) error {
	if env.output == "json" {
		return printJSON(env, status)
	}
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	for _, line := range statusLines(status) {
		_, _ = fmt.Fprintf(table, "%s\t%s\n", line[0], oneLine(line[1])) // kept until Flush
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if err := printProblems(env.stdout, status.Rules.Problems); err != nil {
		return err
	}
	if more := status.Rules.ProblemsTotal - len(status.Rules.Problems); more > 0 {
		return say(env.stdout, "problem: and %d more", more)
	}
	return nil
}

// statusLines returns labels and texts.
func statusLines(status *admin.Status) [][2]string {
	lines := [][2]string{{"daemon", daemonText(status)}}
	if len(status.Sockets) > 0 {
		lines = append(lines, [2]string{"sockets", strings.Join(status.Sockets, ", ")})
	}
	lines = append(lines, [2]string{"rules", rulesText(&status.Rules)}, [2]string{"database", storeText(status)})
	if c := status.Connections; c != nil {
		lines = append(lines, [2]string{"connections", fmt.Sprintf("%d open: %d active, %d idle, %d in a handshake; %s in flight, %s, %s",
			c.Open, c.Active, c.Idle, c.Handshaking, count(c.Requests, "request"), count(c.Tunnels, "tunnel"), count(c.Streams, "event stream"))})
	}
	for _, g := range status.Older {
		lines = append(lines, [2]string{"older", fmt.Sprintf("process %d of %s finishes %s, %s and %s (%s), until %s at the latest; state %s",
			g.PID, g.Version, count(g.Requests, "request"), count(g.Tunnels, "tunnel"), count(g.Streams, "stream"), count(g.Connections, "connection"), timeText(g.Ends), g.State)})
	}
	lines = append(lines, memoryLines(status.Memory)...)
	lines = append(lines, ownFailureLines(status)...)
	lines = append(lines, refusedLines(status)...)
	lines = append(lines, certificateLines(status.Certificates)...)
	lines = append(lines, pageLines(status.ErrorPages)...)
	return append(lines, upstreamStatusLines(status.Upstreams, status.Running)...)
}

func daemonText(status *admin.Status) string {
	if !status.Running {
		return "not running; below is what the rules say on disk"
	}
	text := fmt.Sprintf("%s, process %d, running for %s", status.Version, status.PID, ageText(time.Duration(status.UptimeSeconds)*time.Second))
	if status.Ready {
		return text + ", ready"
	}
	return text + ", NOT READY: " + status.NotReady
}

func rulesText(r *admin.RulesStatus) string {
	text := fmt.Sprintf("%s, %s, %s, %s; default %s; last edit %s",
		count(r.Counts.Rules, "rule"), count(r.Counts.Redirects, "redirect"), count(r.Counts.Hosts, "host"), count(r.Counts.Upstreams, "upstream"),
		describeDefault(r.Default), timeText(r.LastEdit))
	if !r.NextChange.IsZero() {
		text += "; next scheduled change " + timeText(r.NextChange)
	}
	if r.ProblemsTotal > 0 {
		text += "; " + count(r.ProblemsTotal, "PROBLEM")
	}
	return text
}

func storeText(status *admin.Status) string {
	if status.Store.Problem == "" {
		return "well"
	}
	return fmt.Sprintf("PROBLEM since %s: %s; the last good rules go on serving", timeText(status.Store.Since), status.Store.Problem)
}

// ownFailureLines are there only if there is something to say.
func ownFailureLines(status *admin.Status) [][2]string {
	if status.Totals == nil {
		return nil
	}
	var lines [][2]string
	for _, cause := range slices.Sorted(maps.Keys(status.Totals.OwnFailures)) {
		if n := status.Totals.OwnFailures[cause]; n > 0 {
			lines = append(lines, [2]string{"own failures", fmt.Sprintf("%d (%s) since the start: journalctl -u cutover", n, cause)})
		}
	}
	return lines
}

// refusedLines are there only if there is something to say.
func refusedLines(status *admin.Status) [][2]string {
	if status.Totals == nil || len(status.Totals.Refused) == 0 {
		return nil
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(status.Totals.Refused)) {
		parts = append(parts, fmt.Sprintf("%d %s", status.Totals.Refused[reason], reason))
	}
	return [][2]string{{"refused", strings.Join(parts, ", ") + " since the start: 'Limits' in docs/operations.md"}}
}

// pageLines are there only if there is something to say.
func pageLines(p *proxy.PagesStatus) [][2]string {
	if p == nil || p.Pages+len(p.Problems) == 0 {
		return nil
	}
	lines := [][2]string{{"error pages", fmt.Sprintf("%s in %s", count(p.Pages, "page"), p.Dir)}}
	for _, problem := range p.Problems {
		serving := "the last good one serves"
		if !problem.Serving {
			serving = "it is not served"
		}
		lines = append(lines, [2]string{"", fmt.Sprintf("PROBLEM: %s: %s: %s", problem.File, problem.Problem, serving)})
	}
	return lines
}

func memoryLines(m *admin.MemoryStatus) [][2]string {
	switch {
	case m == nil:
		return nil
	case m.Limit == 0:
		return [][2]string{{"memory", fmt.Sprintf("%d MiB, no limit: sudo cutover doctor", m.Used>>20)}}
	}
	return [][2]string{{"memory", fmt.Sprintf("%d MiB of %d MiB (%s)", m.Used>>20, m.Limit>>20, m.From)}}
}

func certificateLines(c *admin.CertificateStatus) [][2]string {
	if c == nil {
		return nil
	}
	lines := [][2]string{{"certificates", fmt.Sprintf("%d stored, %d being issued, %d held back; issuer %s", c.Stored, c.InFlight, c.BackedOffTotal, c.Issuer)}}
	lines = append(lines, budgetLines(c)...)
	if c.Problem != "" {
		lines = append(lines, [2]string{"", "PROBLEM: nothing is issued or renewed: " + c.Problem})
	}
	for _, e := range c.Ending {
		lines = append(lines, [2]string{"", fmt.Sprintf("%s: ends %s: cutover certs show %s", e.Name, timeText(e.Expires), e.Name)})
	}
	if more := c.EndingTotal - len(c.Ending); more > 0 {
		lines = append(lines, [2]string{"", fmt.Sprintf("and %d more end within 7 days: cutover certs ls", more)})
	}
	for _, f := range c.Files {
		serving := "the last good one serves"
		if !f.Serving {
			serving = "NONE SERVES"
		}
		lines = append(lines, [2]string{"", fmt.Sprintf("%s cannot be read, %s: %s", f.Name, serving, f.Problem)})
	}
	for _, b := range c.BackedOff {
		lines = append(lines, [2]string{"", fmt.Sprintf("%s: tried %s, again after %s: %s", b.Name, count(b.Failures, "time"), timeText(b.Next), b.Error)})
	}
	return lines
}

// budgetLines say what new certificates wait for.
func budgetLines(c *admin.CertificateStatus) [][2]string {
	var lines [][2]string
	if c.Late > 0 {
		lines = append(lines, [2]string{"", count(c.Late, "renewal") + " due that did not succeed yet; tried again by itself"})
	}
	if c.Outage != "" {
		lines = append(lines, [2]string{"", c.Outage})
	}
	b := c.Budget
	if b == nil {
		return lines
	}
	lines = append(lines, [2]string{"budget", fmt.Sprintf("%d of %d orders used in the last %s", b.Orders, b.Limit, ageText(time.Duration(b.WindowSeconds)*time.Second))})
	for _, h := range b.Holds {
		lines = append(lines, [2]string{"", fmt.Sprintf("new certificates wait until %s: %s", timeText(h.Until), h.Reason)})
	}
	if more := b.HoldsTotal - len(b.Holds); more > 0 {
		lines = append(lines, [2]string{"", fmt.Sprintf("and %d more wait", more)})
	}
	return lines
}

func upstreamStatusLines(upstreams []admin.UpstreamStatus, running bool) [][2]string {
	var lines [][2]string
	for _, u := range upstreams {
		label := "upstream " + u.Name
		if len(u.Targets) == 0 {
			lines = append(lines, [2]string{label, "no targets: its visitors get 503"})
		}
		for _, t := range u.Targets {
			lines = append(lines, [2]string{label, targetText(&t, running)})
			label = ""
		}
	}
	return lines
}

func targetText(t *admin.TargetStatus, running bool) string {
	text := fmt.Sprintf("%s %s, weight %d", t.URL, t.State, t.Weight)
	if running {
		text += fmt.Sprintf("; %d in flight, %d requests, %d failures", t.InFlight, t.Requests, t.Failures)
	}
	if t.LatencyMS > 0 {
		text += fmt.Sprintf("; answers in %.3g ms", t.LatencyMS)
	}
	if !t.FailingSince.IsZero() {
		text += fmt.Sprintf("; FAILS since %s, gets requests only if all others fail: %s", timeText(t.FailingSince), t.FailingBecause)
	}
	if t.TLSProblem != "" {
		text += "; TLS FILES: " + t.TLSProblem
	}
	if t.LastError != "" {
		text += "; last error: " + t.LastError
	}
	return text
}
