package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
)

func newCertsListCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the certificates and the names that wait for one",
		Long: `List the certificates and the names that wait for one.

SOURCE is acme, local (the development CA), file (a pair of your own) or imported (and not renewed yet). STATE is ok;
expiring, within 7 days, where the renewal must have failed; expired; held back until a time, after a failure; not in
the rules, where it is served but no longer renewed; or unreadable.`,
		Example: "  cutover certs ls\n  cutover certs ls -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withSession(cmd, env, func(s *session) error {
				list, err := s.Certificates(cmd.Context())
				if err != nil {
					return err
				}
				return printCertificates(env, list, time.Now())
			})
		},
	}
}

func printCertificates(env *environment, list admin.CertificateList, now time.Time) error {
	if env.output == "json" {
		return printJSON(env, list)
	}
	if len(list.Certificates) == 0 {
		return say(env.stdout, "There are no certificates yet: each comes at the first https request for a host in the rules.\nNext: cutover certs import /etc/letsencrypt --dry-run")
	}
	lines := make([][]string, 0, len(list.Certificates))
	for _, c := range list.Certificates {
		lines = append(lines, []string{c.Name, c.Issuer, dateText(c.Expires), daysLeft(c.Expires, now), c.Source, stateText(&c)})
	}
	return printTable(env.stdout, []string{"NAME", "ISSUER", "EXPIRES", "LEFT", "SOURCE", "STATE"}, lines)
}

func dateText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04")
}

// daysLeft says "41d", or "17h" for less than two days.
func daysLeft(t, now time.Time) string {
	left := t.Sub(now)
	switch {
	case t.IsZero():
		return ""
	case left < 0:
		return "0d"
	case left < 48*time.Hour:
		return fmt.Sprintf("%dh", left/time.Hour)
	default:
		return fmt.Sprintf("%dd", left/(24*time.Hour))
	}
}

func stateText(c *admin.Certificate) string {
	text := string(c.State)
	if !c.Until.IsZero() {
		if c.State != admin.CertificateHeldBack {
			text += ", held back"
		}
		text += " until " + timeText(c.Until)
	}
	if c.Problem != "" {
		text += ": " + c.Problem
	}
	return text
}

func newCertsShowCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "show NAME",
		Short:   "Show all that is known of a host's certificate",
		Example: "  cutover certs show shop.example.com\n  cutover certs show '*.example.com'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := certificateArgument(args[0])
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				detail, err := s.Certificate(cmd.Context(), name)
				if err != nil {
					return err
				}
				return printCertificate(env, &detail)
			})
		},
	}
}

// certificateArgument reads a host or *.parent; what is neither may be the name of a pair of files.
func certificateArgument(text string) (string, error) {
	if !strings.ContainsAny(text, "./:") {
		return text, nil
	}
	return parseHostArgument(text)
}

func printCertificate(env *environment, detail *admin.CertificateDetail) error {
	if env.output == "json" {
		return printJSON(env, detail)
	}
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	for _, line := range certificateDetailLines(detail) {
		if line[1] != "" {
			_, _ = fmt.Fprintf(table, "%s\t%s\n", line[0], oneLine(line[1])) // kept until Flush
		}
	}
	return table.Flush()
}

func certificateDetailLines(d *admin.CertificateDetail) [][2]string {
	source := d.Source
	if d.From != "" {
		source += " from " + d.From
	}
	lines := [][2]string{
		{"name", d.Name}, {"state", stateText(&d.Certificate)}, {"holds for", strings.Join(d.Names, ", ")}, {"source", source}, {"issuer", d.Issuer}, {"serial", d.Serial},
	}
	if !d.Expires.IsZero() {
		lines = append(lines, [2]string{"valid", timeText(d.NotBefore) + " to " + timeText(d.Expires) + ", " + daysLeft(d.Expires, time.Now()) + " left"})
	}
	if !d.RenewUntil.IsZero() {
		lines = append(lines, [2]string{"renewal", "the CA wants it between " + timeText(d.RenewFrom) + " and " + timeText(d.RenewUntil)})
	}
	for i, link := range d.Chain {
		lines = append(lines, [2]string{fmt.Sprintf("chain %d", i+1), fmt.Sprintf("%s, signed by %s, until %s", link.Subject, link.Issuer, timeText(link.Expires))})
	}
	for _, file := range d.Files {
		lines = append(lines, [2]string{"file", file})
	}
	if f := d.Failure; f != nil {
		lines = append(lines, [2]string{"last failure", fmt.Sprintf("tried %s, again after %s: %s", count(f.Failures, "time"), timeText(f.Next), f.Error)})
	}
	return lines
}
