package main

import "github.com/spf13/cobra"

func newCertsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Look at the certificates, bring them in, revoke them",
		Long: `Look at the certificates, bring them in, revoke them.

Nothing of it is needed day by day: certificates come at the first visit and are renewed by themselves.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newCertsListCommand(env), newCertsShowCommand(env), newCertsImportCommand(env), newCertsPrefetchCommand(env),
		newCertsRetryCommand(env), newCertsRevokeCommand(env),
	)
	return cmd
}
