package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
)

const (
	prefetchLook  = 2 * time.Second // between questions how far it is
	prefetchChunk = 5000            // hosts in one request
	maxRefused    = 20              // that are named
)

// prefetchFlags say which hosts, and whether to wait.
type prefetchFlags struct{ all, wait, cancel bool }

func newCertsPrefetchCommand(env *environment) *cobra.Command {
	var f prefetchFlags
	cmd := &cobra.Command{
		Use:   "prefetch [HOST...|-]",
		Short: "Order certificates before anybody asks for them",
		Long: `Order certificates before anybody asks for them, as fast as the budget of orders allows; a fifth of it is left to visitors.

The hosts go into a queue, which the daemon works off by itself, also after a restart. The CA must reach this machine under
each host's name by then. A host that fails stays in the queue and is tried again: 'cutover status' says when and why.

A wildcard such as '*.example.com' needs a host row of its own and DNS-01, [acme.dns] in cutover.toml. --all leaves it out.

With - the hosts come from the standard input, one a line. Without hosts it says how far the queue is, and shows its first hosts.
With --cancel the hosts are taken out of the queue; an order that is under way goes on.`,
		Example: "  cutover certs prefetch shop.example.com www.example.com\n  cutover certs prefetch --all --wait\n" +
			"  cutover certs prefetch '*.example.com'\n  cutover certs prefetch - <hosts.txt\n  cutover certs prefetch                                how far is it?\n" +
			"  cutover certs prefetch --cancel --all",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			hosts, err := prefetchHosts(env.stdin, args, f)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				if f.cancel {
					return cancelPrefetch(cmd.Context(), env, s, hosts, f.all)
				}
				return prefetch(cmd.Context(), env, s, hosts, f)
			})
		},
	}
	cmd.Flags().BoolVar(&f.all, "all", false, "every host that a rule, a redirect or a host row names exactly")
	cmd.Flags().BoolVar(&f.cancel, "cancel", false, "take the hosts out of the queue; with --all, all that are in it")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "return when each host has its certificate, or has failed")
	return cmd
}

func prefetchHosts(stdin io.Reader, args []string, f prefetchFlags) ([]string, error) {
	if f.cancel {
		if err := checkCancel(args, f); err != nil {
			return nil, err
		}
	}
	if f.all && len(args) > 0 {
		return nil, withHint(&usageError{errors.New("say either hosts or --all")}, "--all is every host that may have a certificate")
	}
	if slices.Equal(args, []string{"-"}) {
		return readHosts(stdin)
	}
	return parseHosts(args)
}

// readHosts reads a host a line; empty lines and lines that start with # do not count.
func readHosts(from io.Reader) ([]string, error) {
	var lines []string
	scanner := bufio.NewScanner(from)
	for scanner.Scan() {
		if line := strings.TrimSpace(scanner.Text()); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, withHint(fmt.Errorf("read the hosts: %w", err), "one host a line")
	}
	if len(lines) == 0 {
		return nil, withHint(errors.New("the standard input has no host"), "one host a line")
	}
	return parseHosts(lines)
}

func parseHosts(texts []string) ([]string, error) {
	hosts := make([]string, 0, len(texts))
	for _, text := range texts {
		host, err := parseHostArgument(text)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}

// prefetch queues hosts, if there are any, and says how far they are.
func prefetch(ctx context.Context, env *environment, s *session, hosts []string, f prefetchFlags) error {
	answer := admin.PrefetchAnswer{Refused: []string{}}
	if f.all || len(hosts) > 0 {
		var err error
		if answer, err = queue(ctx, s, hosts, f.all); err != nil {
			return err
		}
		if err := sayQueued(env, answer); err != nil {
			return err
		}
	}
	status, err := s.Prefetched(ctx, answer.Batch)
	if err == nil && f.wait {
		status, err = awaitPrefetch(ctx, env, s, answer.Batch)
	}
	if err != nil {
		return err
	}
	if err := printPrefetch(env, answer, status); err != nil {
		return err
	}
	return prefetchFailure(answer, status, f.wait)
}

// queue sends hosts in parts, which are one batch.
func queue(ctx context.Context, s *session, hosts []string, all bool) (sum admin.PrefetchAnswer, err error) {
	if all {
		return s.Prefetch(ctx, admin.PrefetchRequest{All: true})
	}
	sum.Refused = []string{}
	for part := range slices.Chunk(hosts, prefetchChunk) {
		answer, err := s.Prefetch(ctx, admin.PrefetchRequest{Hosts: part, Batch: sum.Batch})
		if err != nil {
			return sum, err
		}
		sum = admin.PrefetchAnswer{
			Batch: answer.Batch, Queued: sum.Queued + answer.Queued,
			Refused: append(sum.Refused, answer.Refused...), Unprovable: append(sum.Unprovable, answer.Unprovable...),
		}
	}
	return sum, nil
}

func sayQueued(env *environment, answer admin.PrefetchAnswer) error {
	if env.output == "json" {
		return nil // it is part of the end
	}
	if err := say(env.stdout, "%s queued", count(answer.Queued, "host")); err != nil {
		return err
	}
	lines := make([]string, 0, len(answer.Unprovable)+len(answer.Refused))
	for _, host := range answer.Unprovable {
		lines = append(lines, host+": a CA wants a wildcard name proved by DNS-01, which is not set up")
	}
	for _, host := range answer.Refused {
		lines = append(lines, host+": "+whyRefused(host))
	}
	for _, line := range lines[:min(len(lines), maxRefused)] {
		if err := say(env.stdout, "not queued: %s", oneLine(line)); err != nil {
			return err
		}
	}
	if more := len(lines) - maxRefused; more > 0 {
		return say(env.stdout, "not queued: and %d more", more)
	}
	return nil
}

func whyRefused(host string) string {
	if strings.HasPrefix(host, "*.") {
		return "no host row of that very name has the certificate auto or any"
	}
	return "no rule, redirect or host row names it exactly"
}

// awaitPrefetch returns when every host of a batch is done or has failed, and says meanwhile how far it is.
func awaitPrefetch(ctx context.Context, env *environment, s *session, batch int64) (admin.Prefetch, error) {
	ticker := time.NewTicker(prefetchLook)
	defer ticker.Stop()
	last := ""
	for {
		status, err := s.Prefetched(ctx, batch)
		if err != nil || status.Queued == status.WaitingTotal {
			return status, err
		}
		if text := prefetchText(status); text != last && env.output != "json" {
			last = text
			if err := say(env.stdout, "%s", text); err != nil {
				return status, err
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return status, withHint(ctx.Err(), "the daemon goes on by itself; 'cutover certs prefetch' says how far it is")
		}
	}
}

func prefetchText(status admin.Prefetch) string {
	total := status.Done + status.Queued + status.Failed
	text := fmt.Sprintf("%d of %s done", status.Done, count(total, "host"))
	if status.WaitingTotal > 0 {
		text += fmt.Sprintf(", %d failed and will be tried again", status.WaitingTotal)
	}
	if status.Failed > 0 {
		text += fmt.Sprintf(", no rule names %d any more", status.Failed)
	}
	if !status.Until.IsZero() {
		text += fmt.Sprintf("; the others wait until %s: %s", timeText(status.Until), oneLine(status.Reason))
	}
	return text
}

func printPrefetch(env *environment, answer admin.PrefetchAnswer, status admin.Prefetch) error {
	if env.output == "json" {
		return printJSON(env, struct {
			admin.Prefetch
			Refused    []string `json:"refused"`
			Unprovable []string `json:"unprovable,omitempty"`
		}{status, answer.Refused, answer.Unprovable})
	}
	if status.Done+status.Queued+status.Failed == 0 {
		if answer.Batch != 0 || len(answer.Refused)+len(answer.Unprovable) > 0 {
			return nil
		}
		return say(env.stdout, "The queue is empty.\nNext: cutover certs prefetch --all")
	}
	if err := say(env.stdout, "%s", prefetchText(status)); err != nil {
		return err
	}
	for _, b := range status.Waiting[:min(len(status.Waiting), maxRefused)] {
		if err := say(env.stdout, "  %s: tried %s, again after %s: %s", b.Name, count(b.Failures, "time"), timeText(b.Next), oneLine(b.Error)); err != nil {
			return err
		}
	}
	if answer.Batch == 0 && len(answer.Refused)+len(answer.Unprovable) == 0 { // it was asked how far the queue is
		return printQueue(env, status)
	}
	return nil
}

// prefetchFailure is the error of a prefetch that did not do all that was asked for.
func prefetchFailure(answer admin.PrefetchAnswer, status admin.Prefetch, waited bool) error {
	if n := len(answer.Refused) + len(answer.Unprovable); n > 0 {
		return withHint(fmt.Errorf("%s not queued", count(n, "host")), refusedHint(answer))
	}
	if waited && status.WaitingTotal+status.Failed > 0 {
		return withHint(fmt.Errorf("%s still without a certificate", count(status.WaitingTotal+status.Failed, "host")),
			"does DNS lead each to this machine? They are tried again by themselves")
	}
	return nil
}

func refusedHint(answer admin.PrefetchAnswer) string {
	switch {
	case len(answer.Unprovable) > 0:
		return "name a DNS server or a command below [acme.dns] in cutover.toml, then: systemctl restart cutover"
	case strings.HasPrefix(answer.Refused[0], "*."):
		return "cutover hosts set '" + oneLine(answer.Refused[0]) + "', then again"
	}
	return "cutover rules set HOST, then again"
}
