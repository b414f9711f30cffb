package main

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newCertsRetryCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "retry NAME",
		Short: "Forget that a host's certificate failed, and try now",
		Long: `Forget that a host's certificate failed, and try now. It waits for the outcome, up to some minutes.

Without a running daemon only the failure is forgotten.`,
		Example: "  cutover certs retry shop.example.com",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := parseHostArgument(args[0])
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				detail, err := s.RetryCertificate(cmd.Context(), name)
				if err != nil {
					return err
				}
				if !s.running && env.output != "json" {
					return say(env.stdout, "%s waits no longer. No daemon runs, so nothing was asked for: it is at the first visit.", name)
				}
				return printCertificate(env, &detail)
			})
		},
	}
}

// revocationReasons are those of RFC 5280 §5.3.1 that a holder may give.
func revocationReasons() map[string]int {
	return map[string]int{"unspecified": 0, "key-compromise": 1, "affiliation-changed": 3, "superseded": 4, "cessation": 5}
}

func newCertsRevokeCommand(env *environment) *cobra.Command {
	var reason string
	var yes bool
	reasons := strings.Join(slices.Sorted(maps.Keys(revocationReasons())), ", ")
	cmd := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Have the CA revoke a certificate, and remove it",
		Long: `Have the CA revoke a certificate, and remove it here. It cannot be taken back. It is right if somebody else may have the key;
else let the certificate end.

A host in the rules gets a new certificate at its next visit.`,
		Example: "  cutover certs revoke shop.example.com --reason key-compromise",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			number, known := revocationReasons()[reason]
			if !known {
				return withHint(&usageError{fmt.Errorf("--reason %q is not known", reason)}, "it is one of "+reasons)
			}
			name, err := certificateArgument(args[0])
			if err != nil {
				return err
			}
			if err := confirmRevocation(env, name, yes); err != nil {
				return err
			}
			return revoke(cmd, env, name, number)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "unspecified", "why: "+reasons)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirmRevocation asks, unless told not to. Whoever cannot answer says no.
func confirmRevocation(env *environment, name string, yes bool) error {
	if yes {
		return nil
	}
	if _, err := fmt.Fprintf(env.stderr, "Revoke the certificate of %s for good? Type yes: ", name); err != nil {
		return err
	}
	answer, _ := bufio.NewReader(env.stdin).ReadString('\n') // what is missing is no yes
	if strings.TrimSpace(answer) != "yes" {
		return withHint(errors.New("nothing was revoked"), "type yes, or give --yes")
	}
	return nil
}

func revoke(cmd *cobra.Command, env *environment, name string, reason int) error {
	return withSession(cmd, env, func(s *session) error {
		result, err := s.RevokeCertificate(cmd.Context(), name, reason)
		if err != nil {
			return err
		}
		if env.output == "json" {
			return printJSON(env, result)
		}
		return say(env.stdout, "Revoked and removed. Without a certificate for now: %s", strings.Join(result.Names, ", "))
	})
}
