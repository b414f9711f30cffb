package tlsbridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// ImportAccount makes an account that exists at the CA ours, so that orders count for it. It must be of the CA in use, and
// none may be there yet. With dryRun nothing is stored.
func (c *Certificates) ImportAccount(ctx context.Context, location string, keyPEM []byte, dryRun bool) error {
	if err := c.accountFits(location); err != nil {
		return err
	}
	if _, err := certmagic.PEMDecodePrivateKey(keyPEM); err != nil {
		return fmt.Errorf("the account key cannot be read: %w", err)
	}
	base := c.accountBase()
	if c.storage.Exists(ctx, base.key) {
		return errors.New("there is an account already, and it is kept")
	}
	account := acme.Account{Status: acme.StatusValid, Location: location, TermsOfServiceAgreed: true}
	if c.options.Email != "" {
		account.Contact = []string{"mailto:" + c.options.Email}
	}
	registration, err := json.MarshalIndent(account, "", "\t")
	if err != nil || dryRun {
		return err
	}
	return errors.Join(c.storage.Store(ctx, base.key, keyPEM), c.storage.Store(ctx, base.registration, registration))
}

func (c *Certificates) accountFits(location string) error {
	if c.options.Issuer != IssuerACME {
		return errors.New("no account is needed: acme.issuer is " + c.options.Issuer)
	}
	if c.options.AccountKeyPEM != "" {
		return errors.New("acme.account_key names the account to use")
	}
	directory := c.newClient(nil).Directory
	ours, err := url.Parse(directory)
	if err != nil {
		return err
	}
	theirs, err := url.Parse(location)
	if err != nil {
		return err
	}
	if theirs.Scheme != "https" || !strings.EqualFold(theirs.Host, ours.Host) {
		return fmt.Errorf("it is an account of another CA: %q is not at %s", location, ours.Host)
	}
	return nil
}

// accountFiles are the storage keys of an account.
type accountFiles struct{ registration, key string }

// accountBase returns where certmagic looks for the account of the configured e-mail address.
func (c *Certificates) accountBase() accountFiles {
	email := strings.ToLower(c.options.Email)
	folder, user := "default", "default"
	if email != "" {
		name, _, _ := strings.Cut(email, "@")
		folder, user = email, name
	}
	safe := certmagic.StorageKeys.Safe
	base := path.Join("acme", safe(c.issuerKeys[0]), "users", safe(folder), safe(user))
	return accountFiles{base + ".json", base + ".key"}
}
