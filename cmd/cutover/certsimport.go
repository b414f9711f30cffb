package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"cutover/proxy/admin"
	"cutover/tlsbridge/importing"
)

// certsImportFlags say what is read, and what becomes of it.
type certsImportFlags struct {
	from            string
	account, dryRun bool
}

func newCertsImportCommand(env *environment) *cobra.Command {
	var f certsImportFlags
	cmd := &cobra.Command{
		Use:   "import FROM",
		Short: "Bring in the certificates of another program",
		Long: `Bring in the certificates of another program, with their keys. They are served at once and renewed from then on; the other
program keeps its own.

FROM is /etc/letsencrypt of certbot, acme.json of Traefik, the data folder of Caddy or of another program with certmagic, or
a folder of NAME.crt and NAME.key. Which of them it is, is seen by what is there, or said with --from.

What cannot be served is left out and said: expired, a key that does not belong to it, no host name. A host keeps the
certificate that is stored here where that is newer or lasts longer.`,
		Example: `  sudo cutover certs import /etc/letsencrypt --dry-run
  sudo cutover certs import /etc/letsencrypt
  sudo cutover certs import /opt/traefik/acme.json
  sudo cutover certs import /var/lib/caddy/.local/share/caddy
  sudo cutover certs import /root/pairs --from folder`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			found, err := readForeign(args[0], f.from)
			if err != nil {
				return err
			}
			return withSession(cmd, env, func(s *session) error {
				result, err := s.ImportCertificates(cmd.Context(), importRequest(found, &f))
				if err != nil {
					return err
				}
				return printImported(env, found, result, &f)
			})
		},
	}
	cmd.Flags().StringVar(&f.from, "from", "", "what FROM is: "+kindNames())
	cmd.Flags().BoolVar(&f.account, "account", false, "take over its account at the CA, too, if there is none here yet")
	addDryRun(cmd, &f.dryRun)
	return cmd
}

func kindNames() string {
	var names []string
	for _, kind := range importing.Kinds() {
		names = append(names, string(kind))
	}
	return strings.Join(names, ", ")
}

// readForeign reads as the user who runs the command: storing may need another one.
func readForeign(path, from string) (*importing.Found, error) {
	if from != "" && !strings.Contains(", "+kindNames()+",", ", "+from+",") {
		return nil, withHint(&usageError{fmt.Errorf("--from %q is not known", from)}, "it is one of "+kindNames())
	}
	found, err := importing.Read(path, importing.Kind(from))
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, withHint(err, "nothing was imported; run the command with sudo")
	case err != nil:
		return nil, withHint(err, "nothing was imported; name the folder or file, and say what it is with --from: "+kindNames())
	case len(found.Pairs)+len(found.Skipped) == 0:
		return nil, withHint(fmt.Errorf("%s: there are no certificates in it", path), "name another folder or file; see 'cutover certs import --help'")
	}
	return found, nil
}

func importRequest(found *importing.Found, f *certsImportFlags) admin.CertificateImport {
	request := admin.CertificateImport{DryRun: f.dryRun}
	for _, pair := range found.Pairs {
		request.Pairs = append(request.Pairs, admin.CertificatePair{
			Where: pair.Where, From: string(found.Kind), Certificate: string(pair.Certificate), Key: string(pair.Key),
		})
	}
	if f.account {
		for _, account := range found.Accounts {
			request.Accounts = append(request.Accounts, admin.CAAccount{Where: account.Where, Location: account.Location, Key: string(account.Key)})
		}
	}
	return request
}

// importedCertificates is what -o json prints.
type importedCertificates struct {
	Kind importing.Kind `json:"kind"`
	admin.CertificateImported
	DryRun bool `json:"dry_run,omitempty"`
}

func printImported(env *environment, found *importing.Found, result admin.CertificateImported, f *certsImportFlags) error {
	for _, skipped := range found.Skipped {
		result.Placed = append(result.Placed, admin.CertificatePlaced{Where: skipped.Where, Reason: skipped.Reason})
	}
	if env.output == "json" {
		return printJSON(env, importedCertificates{found.Kind, result, f.dryRun})
	}
	lines := make([][]string, 0, len(result.Placed))
	for _, placed := range result.Placed {
		lines = append(lines, []string{placed.Name, dateText(placed.Expires), placedText(&placed, f.dryRun), placed.Where})
	}
	if err := printTable(env.stdout, []string{"NAME", "EXPIRES", "RESULT", "FOUND IN"}, lines); err != nil {
		return err
	}
	if f.dryRun {
		return say(env.stdout, "%s: %s would be stored; nothing was changed", found.Kind, count(result.Stored(), "certificate"))
	}
	return say(env.stdout, "%s: %s stored, served from now on. Next: cutover certs ls", found.Kind, count(result.Stored(), "certificate"))
}

func placedText(placed *admin.CertificatePlaced, dryRun bool) string {
	text := "left out"
	switch {
	case placed.Stored && dryRun:
		text = "would be stored"
	case placed.Stored:
		text = "stored"
	}
	if placed.Reason != "" {
		text += ": " + placed.Reason
	}
	return text
}
