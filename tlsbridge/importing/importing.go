// Package importing finds certificates and keys in the folders and files of other programs. It only reads; whether a pair can
// be served is for others to judge.
package importing

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Kind is a program, or a layout.
type Kind string

// The kinds there are.
const (
	Certbot   Kind = "certbot"   // /etc/letsencrypt
	Traefik   Kind = "traefik"   // acme.json
	Caddy     Kind = "caddy"     // its data folder
	Certmagic Kind = "certmagic" // the storage of any program that uses that library
	Folder    Kind = "folder"    // NAME.crt and NAME.key
)

// Kinds lists them all.
func Kinds() []Kind { return []Kind{Certbot, Traefik, Caddy, Certmagic, Folder} }

// Pair is a certificate with its chain, and its key, as PEM.
type Pair struct {
	Where            string // it was found
	Certificate, Key []byte
}

// Skipped is what looked like a pair, and why it is none.
type Skipped struct{ Where, Reason string }

// Account is an account at a CA.
type Account struct {
	Where    string
	Location string // URL at the CA
	Contact  string // e-mail address; may be empty
	Key      []byte // PEM
}

// Found is what there is at a place.
type Found struct {
	Kind     Kind
	Pairs    []Pair
	Skipped  []Skipped
	Accounts []Account
}

// ErrUnknown says that a place looks like no kind.
var ErrUnknown = errors.New("there are no certificates of a known layout")

// Read reads a place; with an empty kind it looks for one. What cannot be read for want of rights is an error: nothing
// should be left out for that.
func Read(path string, kind Kind) (*Found, error) {
	if kind == "" {
		var err error
		if kind, err = detect(path); err != nil {
			return nil, err
		}
	}
	found := &Found{Kind: kind}
	readers := map[Kind]func(string) error{
		Certbot: found.readCertbot, Traefik: found.readTraefik, Caddy: found.readCertmagic, Certmagic: found.readCertmagic, Folder: found.readFolder,
	}
	read, ok := readers[kind]
	if !ok {
		return nil, fmt.Errorf("there is no kind %q", kind)
	}
	if err := read(path); err != nil {
		return nil, err
	}
	return found, nil
}

func detect(path string) (Kind, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return Traefik, nil
	}
	is := func(names ...string) bool {
		info, err := os.Stat(filepath.Join(append([]string{path}, names...)...))
		return err == nil && info.IsDir()
	}
	switch {
	case is("live"), is("archive"), filepath.Base(path) == "live" && isDir(filepath.Join(path, "..", "archive")):
		return Certbot, nil
	case is("certificates") && is("pki"), is("certificates", "local"):
		return Caddy, nil
	case is("certificates"), filepath.Base(path) == "certificates" && hasSites(path):
		return Certmagic, nil
	}
	pairs, err := filepath.Glob(filepath.Join(path, "*.crt"))
	if err == nil && len(pairs) > 0 {
		return Folder, nil
	}
	if _, err := os.ReadDir(path); err != nil {
		return "", err
	}
	return "", fmt.Errorf("%s: %w", path, ErrUnknown)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func hasSites(path string) bool {
	files, err := filepath.Glob(filepath.Join(path, "*", "*", "*.crt"))
	return err == nil && len(files) > 0
}

// add reads the files of a pair. One that is missing is left out and said.
func (f *Found) add(where, certificate, key string) error {
	pair := Pair{Where: where}
	var err error
	if pair.Certificate, err = os.ReadFile(certificate); err == nil {
		pair.Key, err = os.ReadFile(key)
	}
	switch {
	case err == nil:
		f.Pairs = append(f.Pairs, pair)
	case errors.Is(err, fs.ErrNotExist):
		f.skip(where, err.Error())
	default:
		return err
	}
	return nil
}

func (f *Found) skip(where, reason string) {
	f.Skipped = append(f.Skipped, Skipped{where, reason})
}

// readFolder reads pairs NAME.crt and NAME.key.
func (f *Found) readFolder(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		base, ok := strings.CutSuffix(entry.Name(), ".crt")
		if !ok {
			continue
		}
		certificate := filepath.Join(path, entry.Name())
		if err := f.add(certificate, certificate, filepath.Join(path, base+".key")); err != nil {
			return err
		}
	}
	return nil
}
