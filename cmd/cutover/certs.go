package main

import "github.com/spf13/cobra"

func newCertsCommand(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "See to the certificates",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCertsPrefetchCommand(env))
	return cmd
}
