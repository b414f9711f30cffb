package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
)

func newRedirectsCheckCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Find redirects that lead to other redirects, or round in circles",
		Long: `Find redirects that lead to other redirects, or round in circles. Each one's own path is followed, not what is below it.

The exit status is 1 if one never arrives. One that arrives by way of others is slow, and shown.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withSession(cmd, env, func(s *session) error {
				list, err := s.Chains(cmd.Context())
				if err != nil {
					return err
				}
				return errors.Join(printChains(env, list), loopsError(list))
			})
		},
	}
}

func printChains(env *environment, list admin.ChainList) error {
	if env.output == "json" {
		return printJSON(env, list)
	}
	if len(list.Chains) == 0 {
		return say(env.stdout, "Every redirect leads straight to a destination.")
	}
	for _, c := range list.Chains {
		kind := "chain"
		if c.Loop {
			kind = "loop"
		}
		if err := say(env.stdout, "%s: redirect %d: %s", kind, c.ID, oneLine(c.String())); err != nil {
			return err
		}
	}
	return nil
}

func loopsError(list admin.ChainList) error {
	loops := 0
	for _, c := range list.Chains {
		if c.Loop {
			loops++
		}
	}
	if loops == 0 {
		return nil
	}
	return withHint(fmt.Errorf("%s that visitors never get out of", count(loops, "redirect")), "take one of each circle away: cutover redirects rm --id N")
}
