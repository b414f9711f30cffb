package importing

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// traefikResolver is what acme.json has for each certificate resolver; in Traefik 1, the whole file is one.
type traefikResolver struct {
	Account *struct {
		Email        string
		PrivateKey   []byte // DER, in base64 as JSON has bytes
		Registration *struct {
			URI string `json:"uri"`
		}
	}
	Certificates []struct {
		Domain struct {
			Main string
			SANs []string
		}
		Certificate, Key []byte // PEM, in base64
	}
}

// readTraefik reads acme.json, or the file of that name in a folder.
func (f *Found) readTraefik(path string) error {
	if isDir(path) {
		path = filepath.Join(path, "acme.json")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	resolvers, err := parseTraefik(text)
	if err != nil {
		return fmt.Errorf("%s is no acme.json of Traefik: %w", path, err)
	}
	for _, name := range slices.Sorted(maps.Keys(resolvers)) {
		f.addResolver(path, resolvers[name])
	}
	return nil
}

func parseTraefik(text []byte) (map[string]traefikResolver, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	if _, old := fields["Certificates"]; old {
		var resolver traefikResolver
		err := json.Unmarshal(text, &resolver)
		return map[string]traefikResolver{"": resolver}, err
	}
	resolvers := map[string]traefikResolver{}
	for name, field := range fields {
		var resolver traefikResolver
		if err := json.Unmarshal(field, &resolver); err != nil {
			return nil, fmt.Errorf("resolver %s: %w", name, err)
		}
		resolvers[name] = resolver
	}
	if len(resolvers) == 0 {
		return nil, errors.New("it is empty")
	}
	return resolvers, nil
}

func (f *Found) addResolver(path string, resolver traefikResolver) {
	for _, each := range resolver.Certificates {
		where := path + ": " + each.Domain.Main
		if len(each.Certificate) == 0 || len(each.Key) == 0 {
			f.skip(where, "it has no certificate or no key")
			continue
		}
		f.Pairs = append(f.Pairs, Pair{Where: where, Certificate: each.Certificate, Key: each.Key})
	}
	if a := resolver.Account; a != nil && a.Registration != nil && len(a.PrivateKey) > 0 {
		key, err := pemOfDER(a.PrivateKey)
		if err != nil {
			f.skip(path+": account", err.Error())
			return
		}
		f.Accounts = append(f.Accounts, Account{Where: path, Location: a.Registration.URI, Contact: a.Email, Key: key})
	}
}

// pemOfDER wraps a key in PEM; Traefik writes RSA keys in PKCS #1 and others in SEC 1.
func pemOfDER(der []byte) ([]byte, error) {
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der}), nil
	}
	if _, err := x509.ParseECPrivateKey(der); err == nil {
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
	}
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
	return nil, errors.New("the account key is of a kind that cannot be used")
}
