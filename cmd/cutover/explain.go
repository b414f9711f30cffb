package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/rules"
)

func newExplainCommand(env *environment) *cobra.Command {
	var cookies, headers []string
	var request admin.ExplainRequest
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Show where a request goes, and why",
		Long: `Show where a request goes, and why: the rule, the visitor's bucket, the version. No request is made.

The decision is the one that a visitor's request meets; their bucket follows from their cookie, or else from their
address.`,
		Example: `  cutover explain https://shop.example.com/cart
  cutover explain https://shop.example.com/cart --ip 203.0.113.9
  cutover explain https://shop.example.com/cart --cookie staff=yes
  cutover explain https://shop.example.com/api -X POST -H 'Accept: application/json' -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.URL = args[0]
			if !strings.Contains(args[0], "://") {
				request.URL = "https://" + args[0]
			}
			request.Cookie = strings.Join(cookies, "; ")
			var err error
			if request.Headers, err = parseHeaders(headers); err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error { return explain(cmd.Context(), env, s, request) })
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&cookies, "cookie", nil, "a cookie of the request, as NAME=VALUE")
	flags.StringArrayVarP(&headers, "header", "H", nil, "a header of the request, as 'Name: value'")
	flags.StringVarP(&request.Method, "request", "X", "GET", "the method of the request")
	flags.StringVar(&request.IP, "ip", "", "the address of the visitor (default 127.0.0.1)")
	return cmd
}

func parseHeaders(texts []string) (map[string][]string, error) {
	headers := http.Header{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, ":")
		if !ok {
			return nil, withHint(&usageError{fmt.Errorf("-H %q has no colon", text)}, "give it as -H 'Name: value'")
		}
		headers.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return headers, nil
}

func explain(ctx context.Context, env *environment, s *session, request admin.ExplainRequest) error {
	e, err := s.Explain(ctx, request)
	if err != nil {
		return err
	}
	if env.output == "json" {
		return printJSON(env, e)
	}
	return printExplanation(env, &e)
}

func printExplanation(env *environment, e *admin.Explanation) error {
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	line := func(label, text string) { _, _ = fmt.Fprintf(table, "%s\t%s\n", label, oneLine(text)) } // kept until Flush
	line("request", e.Method+" "+e.URL)
	line("decided by", decidedBy(e))
	if e.Bucket >= 0 {
		line("bucket", fmt.Sprintf("%d of 10000, v2 below %g", e.Bucket, e.Percent*100))
	}
	line("outcome", outcome(e))
	for i, target := range e.Targets {
		label := ""
		if i == 0 {
			label = "targets"
		}
		line(label, fmt.Sprintf("%s (%s, weight %d)", target.URL, target.State, target.Weight))
	}
	if e.Repair != "" {
		line("repair", e.Repair)
	}
	for i, sentence := range e.Why {
		label := ""
		if i == 0 {
			label = "why"
		}
		line(label, sentence)
	}
	for _, warning := range e.Warnings {
		line("warning", warning)
	}
	return table.Flush()
}

func decidedBy(e *admin.Explanation) string {
	switch {
	case e.Action == admin.ActionRefused && e.Guard == nil:
		return "a guard"
	case e.Action == admin.ActionRefused:
		return fmt.Sprintf("guard %d: %s%s", e.Guard.ID, e.Guard.Host, e.Guard.Path)
	case e.Reason == rules.ReasonChallenge:
		return "the path: a CA asks an ACME client of v1"
	case e.Rule != nil:
		return fmt.Sprintf("rule %d: %s%s, %s to v2", e.Rule.ID, e.Rule.Host, pathText(e.Rule.Path, e.Rule.Match), percentText(e.Rule.Percent))
	case e.Redirect != nil:
		return fmt.Sprintf("redirect %d: %s%s", e.Redirect.ID, e.Redirect.Host, pathText(e.Redirect.Path, e.Redirect.Match))
	default:
		return "the default: nothing matches"
	}
}

func outcome(e *admin.Explanation) string {
	switch e.Action {
	case admin.ActionForward:
		return fmt.Sprintf("version %s, upstream %s", e.Version, e.Upstream)
	case admin.ActionRedirect:
		return fmt.Sprintf("%d to %s", e.Status, e.Location)
	case admin.ActionGone:
		return "410, gone"
	case admin.ActionRefused:
		return fmt.Sprintf("%d, refused", e.Status)
	default:
		return "421, no rule knows this host"
	}
}
