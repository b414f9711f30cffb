package importing

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// readCertmagic reads certificates/ISSUER/NAME/NAME.crt with NAME.key beside it. path is the folder that has certificates in
// it, or that one.
func (f *Found) readCertmagic(path string) error {
	root := filepath.Clean(path)
	if filepath.Base(root) == "certificates" {
		root = filepath.Dir(root)
	}
	issuers, err := os.ReadDir(filepath.Join(root, "certificates"))
	if err != nil {
		return err
	}
	for _, issuer := range issuers {
		if !issuer.IsDir() {
			continue
		}
		if err := f.readIssuer(filepath.Join(root, "certificates", issuer.Name())); err != nil {
			return err
		}
	}
	return f.readCertmagicAccounts(root)
}

func (f *Found) readIssuer(folder string) error {
	sites, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, site := range sites {
		base := filepath.Join(folder, site.Name(), site.Name())
		if filepath.Base(folder) == "local" {
			f.skip(base+".crt", "it is of a CA that no visitor trusts")
			continue
		}
		if err := f.add(base+".crt", base+".crt", base+".key"); err != nil {
			return err
		}
	}
	return nil
}

// readCertmagicAccounts reads acme/ISSUER/users/EMAIL.
func (f *Found) readCertmagicAccounts(root string) error {
	registrations, err := filepath.Glob(filepath.Join(root, "acme", "*", "users", "*", "*.json"))
	if err != nil {
		return err
	}
	for _, file := range registrations {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var registration struct {
			Location string   `json:"location"`
			Contact  []string `json:"contact"`
		}
		if err := json.Unmarshal(text, &registration); err != nil {
			f.skip(file, err.Error())
			continue
		}
		account := Account{Where: file, Location: registration.Location}
		if len(registration.Contact) > 0 {
			account.Contact = strings.TrimPrefix(registration.Contact[0], "mailto:")
		}
		if account.Key, err = os.ReadFile(strings.TrimSuffix(file, ".json") + ".key"); err != nil {
			f.skip(file, err.Error())
			continue
		}
		f.Accounts = append(f.Accounts, account)
	}
	return nil
}
