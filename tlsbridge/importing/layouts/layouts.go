// Package layouts makes certificates, and writes the folders that other programs keep them in. It is for tests.
package layouts

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Pair is a certificate, the intermediate that signed it, and its key, as PEM.
type Pair struct{ Leaf, Intermediate, Key []byte }

// Chain is what a server sends.
func (p Pair) Chain() []byte { return append(append([]byte{}, p.Leaf...), p.Intermediate...) }

// CA is a root with an intermediate.
type CA struct {
	Root, Intermediate *x509.Certificate
	key                *ecdsa.PrivateKey // of the intermediate
}

// NewCA makes one.
func NewCA() (*CA, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	root, err := sign(authority("Test Root"), nil, rootKey, rootKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	intermediate, err := sign(authority("Test Intermediate"), root, key, rootKey)
	return &CA{Root: root, Intermediate: intermediate, key: key}, err
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-365 * 24 * time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func sign(template, parent *x509.Certificate, key, signer crypto.Signer) (*x509.Certificate, error) {
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = number
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Issue makes a certificate for names, valid from and to such times away from now.
func (ca *CA) Issue(from, to time.Duration, names ...string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	leaf, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: time.Now().Add(from), NotAfter: time.Now().Add(to),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca.Intermediate, key, ca.key)
	if err != nil {
		return Pair{}, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	return Pair{
		Leaf: block("CERTIFICATE", leaf.Raw), Intermediate: block("CERTIFICATE", ca.Intermediate.Raw), Key: block("EC PRIVATE KEY", der),
	}, err
}

func block(kind string, data []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data})
}

// write writes files, making their folders; names and contents alternate.
func write(root string, files map[string][]byte) error {
	for name, data := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// Certbot writes a lineage as certbot has it after len(pairs)-1 renewals: numbered files in archive, symlinks to the newest in
// live, and a renewal configuration.
func Certbot(root, name string, pairs ...Pair) error {
	live := filepath.Join(root, "live", name)
	if err := os.MkdirAll(live, 0o700); err != nil {
		return err
	}
	for i, pair := range pairs {
		err := write(filepath.Join(root, "archive", name), map[string][]byte{
			fmt.Sprintf("cert%d.pem", i+1): pair.Leaf, fmt.Sprintf("chain%d.pem", i+1): pair.Intermediate,
			fmt.Sprintf("fullchain%d.pem", i+1): pair.Chain(), fmt.Sprintf("privkey%d.pem", i+1): pair.Key,
		})
		if err != nil {
			return err
		}
	}
	conf := "# renew_before_expiry = 30 days\nversion = 2.1.0\narchive_dir = " + filepath.Join(root, "archive", name) + "\n"
	for _, file := range []string{"cert", "privkey", "chain", "fullchain"} {
		link := filepath.Join(live, file+".pem")
		if err := os.Symlink(fmt.Sprintf("../../archive/%s/%s%d.pem", name, file, len(pairs)), link); err != nil {
			return err
		}
		conf += file + " = " + link + "\n"
	}
	return write(root, map[string][]byte{
		"renewal/" + name + ".conf": []byte(conf + "\n[renewalparams]\nauthenticator = webroot\n"),
		"live/README":               []byte("This directory contains your keys and certificates.\n"),
	})
}

// CertbotAccount writes an account with an RSA key, as certbot does.
func CertbotAccount(root, host, location string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	number := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	jwk, err := json.Marshal(map[string]string{
		"kty": "RSA", "n": number(key.N), "e": number(big.NewInt(int64(key.E))), "d": number(key.D), "p": number(key.Primes[0]), "q": number(key.Primes[1]),
		"dp": number(key.Precomputed.Dp), "dq": number(key.Precomputed.Dq), "qi": number(key.Precomputed.Qinv),
	})
	if err != nil {
		return nil, err
	}
	return key, write(filepath.Join(root, "accounts", host, "directory", "0123456789abcdef"), map[string][]byte{
		"private_key.json": jwk,
		"regr.json":        []byte(`{"body": {}, "uri": "` + location + `"}`),
		"meta.json":        []byte(`{"creation_dt": "2026-01-01T00:00:00Z", "creation_host": "v1.example.com"}`),
	})
}

// Traefik writes acme.json with a resolver "letsencrypt", by the first name of each pair; with old, as Traefik 1 had it.
func Traefik(path string, old bool, pairs map[string]Pair) error {
	type domain struct {
		Main string   `json:"main"`
		SANs []string `json:"sans,omitempty"`
	}
	type entry struct {
		Domain      domain `json:"domain"`
		Certificate []byte `json:"certificate"`
		Key         []byte `json:"key"`
		Store       string `json:"Store"`
	}
	var entries []entry
	for name, pair := range pairs {
		entries = append(entries, entry{domain{Main: name}, pair.Chain(), pair.Key, "default"})
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	resolver := map[string]any{
		"Account": map[string]any{
			"Email": "ops@example.com", "PrivateKey": x509.MarshalPKCS1PrivateKey(key), "KeyType": "4096",
			"Registration": map[string]any{"body": map[string]any{"status": "valid"}, "uri": "https://acme-v02.api.letsencrypt.org/acme/acct/1"},
		},
		"Certificates": entries,
	}
	var file any = map[string]any{"letsencrypt": resolver}
	if old {
		file = resolver
	}
	text, err := json.MarshalIndent(file, "", "  ")
	return errors.Join(err, os.WriteFile(path, text, 0o600))
}

// Certmagic writes a pair into the storage of a program that uses certmagic.
func Certmagic(root, issuer, name string, pair Pair) error {
	safe := strings.ReplaceAll(name, "*", "wildcard_")
	base := filepath.Join("certificates", issuer, safe, safe)
	return write(root, map[string][]byte{
		base + ".crt": pair.Chain(), base + ".key": pair.Key, base + ".json": []byte(`{"sans":["` + name + `"],"issuer_data":{"url":"https://ca.test/cert/1"}}`),
	})
}

// Caddy writes a pair into the data folder of Caddy, with one of Caddy's own CA beside it.
func Caddy(root, name string, pair, internal Pair) error {
	return errors.Join(
		Certmagic(root, "acme-v02.api.letsencrypt.org-directory", name, pair),
		Certmagic(root, "local", "localhost", internal),
		write(root, map[string][]byte{"pki/authorities/local/root.crt": internal.Intermediate, "last_clean.json": []byte("{}"), "instance.uuid": []byte("6e7c1f3e-1f43-4f6e-8f4c-3c1c1f1a5a3c")}),
		os.MkdirAll(filepath.Join(root, "locks"), 0o700),
	)
}

// Folder writes NAME.crt and NAME.key.
func Folder(root, name string, pair Pair) error {
	return write(root, map[string][]byte{name + ".crt": pair.Chain(), name + ".key": pair.Key})
}

// RootPEM is what visitors trust.
func (ca *CA) RootPEM() []byte { return block("CERTIFICATE", ca.Root.Raw) }
