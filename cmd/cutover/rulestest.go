package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy"
	"cutover/proxy/admin"
)

// testCase is a request and where it should go.
type testCase struct {
	Name     string            `json:"name,omitempty"`
	URL      string            `json:"url"`
	Method   string            `json:"method,omitempty"`
	Headers  map[string]string `json:"headers,omitempty"`
	ClientIP string            `json:"client_ip,omitempty"`
	Visitor  string            `json:"visitor,omitempty"` // the value of the visitor cookie
	Expect   outcomeWanted     `json:"expect"`
}

// outcomeWanted is what a case expects; what is empty may be anything.
type outcomeWanted struct {
	Version  string `json:"version,omitempty"`
	Upstream string `json:"upstream,omitempty"`
	Redirect string `json:"redirect,omitempty"`
	Status   int    `json:"status,omitempty"` // of a redirect, 410 or 421
}

// testResult is what became of a case.
type testResult struct {
	Case     int           `json:"case"` // from 1
	Name     string        `json:"name"`
	Passed   bool          `json:"passed"`
	Expected outcomeWanted `json:"expected"`
	Got      outcomeWanted `json:"got"`
	Why      []string      `json:"why"`
}

// decider says where a request goes.
type decider func(ctx context.Context, request admin.ExplainRequest) (admin.Explanation, error)

func newRulesTestCommand(env *environment) *cobra.Command {
	var f testFiles
	cmd := &cobra.Command{
		Use:   "test CASES.json|-",
		Short: "Check that requests go where they should",
		Long: `Check that requests go where they should, with the decision that they would meet; no request is made.

CASES.json is a list of cases:

  [{"url": "https://shop.example.com/cart", "expect": {"version": "v2"}},
   {"url": "https://old.example.com/", "expect": {"redirect": "https://www.example.com/", "status": 301}},
   {"url": "https://shop.example.com/", "method": "POST", "headers": {"X-Beta": "on"}, "client_ip": "203.0.113.9",
    "visitor": "VALUE OF THE COOKIE ` + proxy.CookieName + `", "name": "beta", "expect": {"upstream": "canary"}}]

With --rules the rules of a file decide, and no database is needed. Visitors then get other buckets than in production: expect a
version only where percent is 0 or 100.`,
		Example: "  cutover rules test cases.json\n  cutover rules test cases.json --rules rules.csv --redirects redirects.csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cases, err := readCases(env, args[0])
			if err != nil {
				return err
			}
			if f.rules != "" || f.redirects != "" {
				decide, err := f.decider(env)
				if err != nil {
					return err
				}
				return runCases(cmd.Context(), env, cases, decide)
			}
			return withSession(cmd, env, func(s *session) error { return runCases(cmd.Context(), env, cases, s.Explain) })
		},
	}
	cmd.Flags().StringVar(&f.rules, "rules", "", "decide by the rules of this file, not by those in force")
	cmd.Flags().StringVar(&f.redirects, "redirects", "", "decide by the redirects of this file")
	return cmd
}

func readCases(env *environment, name string) ([]testCase, error) {
	const hint = "see 'cutover rules test --help' for what a case has"
	source := env.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, withHint(&usageError{err}, "name a file that can be read, or - for the standard input")
		}
		defer func() { _ = file.Close() }() // it was only read
		source = file
	}
	decoder := json.NewDecoder(source)
	decoder.DisallowUnknownFields()
	var cases []testCase
	err := decoder.Decode(&cases)
	if err == nil && decoder.More() {
		err = errors.New("more follows after the list")
	}
	if err != nil {
		return nil, withHint(&usageError{fmt.Errorf("%s is no list of cases: %s", name, strings.TrimPrefix(err.Error(), "json: "))}, hint)
	}
	if len(cases) == 0 { // a CI that lost its cases must not pass
		return nil, withHint(&usageError{fmt.Errorf("%s has no cases", name)}, hint)
	}
	for i, c := range cases {
		if c.Expect == (outcomeWanted{}) {
			return nil, withHint(&usageError{fmt.Errorf("case %d of %s expects nothing", i+1, name)}, hint)
		}
	}
	return cases, nil
}

func (c *testCase) request() admin.ExplainRequest {
	request := admin.ExplainRequest{URL: c.URL, Method: c.Method, IP: c.ClientIP, Headers: map[string][]string{}}
	for name, value := range c.Headers {
		request.Headers[name] = []string{value}
	}
	if c.Visitor != "" {
		request.Cookie = proxy.CookieName + "=" + c.Visitor
	}
	return request
}

// runCases asks for each case, and prints those that go elsewhere.
func runCases(ctx context.Context, env *environment, cases []testCase, decide decider) error {
	results := make([]testResult, 0, len(cases))
	failed := 0
	for i, c := range cases {
		e, err := decide(ctx, c.request())
		if err != nil {
			return withHint(fmt.Errorf("case %d: %w", i+1, err), "see 'cutover rules test --help' for what a case has")
		}
		r := testResult{Case: i + 1, Name: c.title(), Expected: c.Expect, Got: gotOf(&e), Why: e.Why}
		if r.Passed = c.Expect.met(r.Got); !r.Passed {
			failed++
		}
		results = append(results, r)
	}
	return errors.Join(printResults(env, results), casesError(failed, len(cases)))
}

func casesError(failed, all int) error {
	if failed == 0 {
		return nil
	}
	return withHint(fmt.Errorf("%d of %s went elsewhere", failed, count(all, "case")), "'cutover explain URL' shows what decides a request in force")
}

func (c *testCase) title() string {
	text := c.URL
	if c.Method != "" {
		text = c.Method + " " + text
	}
	if c.Name != "" {
		text = c.Name + ": " + text
	}
	return text
}

func gotOf(e *admin.Explanation) outcomeWanted {
	return outcomeWanted{Version: e.Version, Upstream: e.Upstream, Redirect: e.Location, Status: e.Status}
}

// met reports whether all that is expected is so.
func (w outcomeWanted) met(got outcomeWanted) bool {
	return (w.Version == "" || w.Version == got.Version) && (w.Upstream == "" || w.Upstream == got.Upstream) &&
		(w.Redirect == "" || w.Redirect == got.Redirect) && (w.Status == 0 || w.Status == got.Status)
}

func (w outcomeWanted) String() string {
	var parts []string
	for _, part := range []struct{ name, value string }{{"version", w.Version}, {"upstream", w.Upstream}, {"redirect to", w.Redirect}} {
		if part.value != "" {
			parts = append(parts, part.name+" "+part.value)
		}
	}
	if w.Status != 0 {
		parts = append(parts, fmt.Sprintf("status %d", w.Status))
	}
	return strings.Join(parts, ", ")
}

func printResults(env *environment, results []testResult) error {
	if env.output == "json" {
		return printJSON(env, results)
	}
	passed := 0
	for _, r := range results {
		if r.Passed {
			passed++
			continue
		}
		err := say(env.stdout, "FAIL case %d: %s\n  expected  %s\n  got       %s\n  why       %s", r.Case, oneLine(r.Name), oneLine(r.Expected.String()), oneLine(r.Got.String()), oneLine(strings.Join(r.Why, " ")))
		if err != nil {
			return err
		}
	}
	return say(env.stdout, "%d of %s as expected", passed, count(len(results), "case"))
}
