package importing

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// readCertbot reads certbot's folder: the pairs are live/NAME/fullchain.pem and privkey.pem, symlinks into archive/NAME. Where a
// symlink leads nowhere, as in a copy of the folder, the newest pair of archive/NAME is read.
func (f *Found) readCertbot(path string) error {
	if filepath.Base(filepath.Clean(path)) == "live" {
		path = filepath.Dir(filepath.Clean(path))
	}
	names, err := lineages(path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := f.readLineage(path, name); err != nil {
			return err
		}
	}
	return f.readCertbotAccounts(path)
}

// lineages returns the names that live, archive or renewal have. certbot removes a lineage from all three.
func lineages(path string) ([]string, error) {
	var names []string
	for _, folder := range []string{"live", "archive"} {
		entries, err := os.ReadDir(filepath.Join(path, folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, entry := range entries {
			if isDir(filepath.Join(path, folder, entry.Name())) {
				names = append(names, entry.Name())
			}
		}
	}
	renewals, err := os.ReadDir(filepath.Join(path, "renewal"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, entry := range renewals {
		if name, ok := strings.CutSuffix(entry.Name(), ".conf"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (f *Found) readLineage(path, name string) error {
	for _, folder := range []string{filepath.Join(path, "live", name), renewalFolder(path, name)} {
		certificate, key := filepath.Join(folder, "fullchain.pem"), filepath.Join(folder, "privkey.pem")
		if folder != "" && exists(certificate) && exists(key) {
			return f.add(filepath.Join(path, "live", name), certificate, key)
		}
	}
	archive := filepath.Join(path, "archive", name)
	number, err := newest(archive)
	if err != nil {
		return err
	}
	if number == 0 {
		f.skip(filepath.Join(path, "live", name), "there is neither fullchain.pem with privkey.pem nor an archive of them")
		return nil
	}
	return f.add(archive, filepath.Join(archive, fmt.Sprintf("fullchain%d.pem", number)), filepath.Join(archive, fmt.Sprintf("privkey%d.pem", number)))
}

// exists follows symlinks. A file that may not be looked at is there: reading it will say what is wrong.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil || errors.Is(err, fs.ErrPermission)
}

// renewalFolder returns the folder that renewal/NAME.conf names, which may be elsewhere; "" if it names none.
func renewalFolder(path, name string) string {
	text, err := os.ReadFile(filepath.Join(path, "renewal", name+".conf"))
	if err != nil {
		return ""
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if ok && strings.TrimSpace(key) == "fullchain" {
			return filepath.Dir(strings.TrimSpace(value))
		}
	}
	return ""
}

// newest returns the highest number of which archive has certificate and key; 0 for none.
func newest(archive string) (highest int, err error) {
	entries, err := os.ReadDir(archive)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, entry := range entries {
		text, ok := strings.CutPrefix(strings.TrimSuffix(entry.Name(), ".pem"), "fullchain")
		number, wrong := strconv.Atoi(text)
		if ok && wrong == nil && exists(filepath.Join(archive, fmt.Sprintf("privkey%d.pem", number))) {
			highest = max(highest, number)
		}
	}
	return highest, err
}

// readCertbotAccounts reads accounts/HOST/directory/ID: the key as a JWK, and the URL at the CA.
func (f *Found) readCertbotAccounts(path string) error {
	keys, err := filepath.Glob(filepath.Join(path, "accounts", "*", "*", "*", "private_key.json"))
	if err != nil {
		return err
	}
	for _, file := range keys {
		account, err := readCertbotAccount(filepath.Dir(file))
		if err != nil {
			f.skip(filepath.Dir(file), err.Error())
			continue
		}
		f.Accounts = append(f.Accounts, account)
	}
	return nil
}

func readCertbotAccount(folder string) (Account, error) {
	account := Account{Where: folder}
	text, err := os.ReadFile(filepath.Join(folder, "private_key.json"))
	if err != nil {
		return account, err
	}
	if account.Key, err = keyOfJWK(text); err != nil {
		return account, err
	}
	text, err = os.ReadFile(filepath.Join(folder, "regr.json"))
	if err != nil {
		return account, err
	}
	var registration struct {
		URI string `json:"uri"`
	}
	err = json.Unmarshal(text, &registration)
	account.Location = registration.URI
	return account, err
}

// jwk is a private key as in RFC 7518 §6.
type jwk struct {
	Kind string `json:"kty"`
	N    number `json:"n"`
	E    number `json:"e"`
	D    number `json:"d"`
	P    number `json:"p"`
	Q    number `json:"q"`

	Curve string `json:"crv"`
	X     number `json:"x"`
	Y     number `json:"y"`
}

// number is a number in base64url.
type number struct{ big.Int }

// UnmarshalJSON reads it, with padding or without.
func (n *number) UnmarshalJSON(text []byte) error {
	var encoded string
	if err := json.Unmarshal(text, &encoded); err != nil {
		return err
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "="))
	n.SetBytes(data)
	return err
}

// keyOfJWK returns the key as PEM.
func keyOfJWK(text []byte) ([]byte, error) {
	var k jwk
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("the account key cannot be read: %w", err)
	}
	switch {
	case k.Kind == "RSA":
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: &k.N.Int, E: int(k.E.Int64())}, D: &k.D.Int, Primes: []*big.Int{&k.P.Int, &k.Q.Int}}
		if err := key.Validate(); err != nil {
			return nil, fmt.Errorf("the account key is damaged: %w", err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), nil
	case k.Kind == "EC" && k.Curve == "P-256":
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), k.D.FillBytes(make([]byte, 32)))
		if err != nil {
			return nil, fmt.Errorf("the account key is damaged: %w", err)
		}
		der, err := x509.MarshalECPrivateKey(key)
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
	}
	return nil, fmt.Errorf("an account key of the kind %s %s cannot be used", k.Kind, k.Curve)
}
