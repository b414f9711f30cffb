package main

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"

	"github.com/spf13/cobra"

	"cutover/tlsbridge"
)

// newDNSRunCommand is what cutover-dns@.service runs for each request of the DNS hook, as a user of its own.
func newDNSRunCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:    "dns-run",
		Short:  "Run the DNS hook for the request on the socket that is the standard input",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := net.FileConn(os.Stdin)
			if err != nil {
				return withHint(err, "this is for cutover-dns@.service; to try a hook out: COMMAND present _acme-challenge.example.com. VALUE")
			}
			return errors.Join(answerDNSHook(cmd.Context(), c, cmp.Or(env.configFile, defaultConfigFile)), c.Close())
		},
	}
}

func answerDNSHook(ctx context.Context, c net.Conn, configFile string) error {
	return tlsbridge.AnswerDNSHook(ctx, c, func() (*tlsbridge.DNSProgram, error) { return findDNSProgram(configFile) })
}

// findDNSProgram returns the program that a file names which only root can have written. Whoever asks has no say in it.
func findDNSProgram(configFile string) (*tlsbridge.DNSProgram, error) {
	if err := tlsbridge.CheckTrusted(configFile); err != nil {
		return nil, err
	}
	c, err := loadConfig(configFile, nil, func(string) string { return "" }, os.ReadFile)
	if err != nil {
		return nil, err
	}
	if c.ACME.DNS.Command == "" {
		return nil, errors.New("acme.dns.command does not stand in " + configFile + ", where cutover-dns@.service looks for it")
	}
	return &tlsbridge.DNSProgram{Command: c.ACME.DNS.Command, Time: c.ACME.DNS.Timeout}, nil
}
