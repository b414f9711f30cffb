package tlsbridge

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// The values of Stored.Source.
const (
	SourceACME     = "acme"
	SourceLocal    = "local"    // the CA of our own
	SourceFile     = "file"     // a pair of the operator's
	SourceImported = "imported" // and not renewed since
)

// Stored is a certificate that can be served.
type Stored struct {
	Name      string   // that it is filed under: a host, *.parent, or the base name of a pair of files
	Names     []string // that it holds for
	Issuer    string   // common name, or else the organisation
	Serial    string   // hexadecimal
	NotBefore time.Time
	NotAfter  time.Time
	Source    string
	From      string   // what an imported one was imported from
	Files     []string // certificate and key
	Problem   string   // why it cannot be read, or why a newer file cannot; the fields above may be empty then
}

// Expiring reports whether a certificate ends so soon that its renewal must have failed: within 7 days, or within the last
// quarter of a short life.
func (s *Stored) Expiring(now time.Time) bool {
	return s.NotAfter.Sub(now) < min(7*24*time.Hour, s.NotAfter.Sub(s.NotBefore)/4)
}

// shelf remembers what was read of the certificates, since parsing thousands takes a while and looking at their dates does not.
type shelf struct {
	mu   sync.Mutex
	read map[string]shelved // by file
}

type shelved struct {
	stamp  stamp
	stored Stored
}

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.ModTime(), info.Size()}, nil
}

// List returns the stored certificates, sorted by name, and after them the pairs of files that were asked for so far.
func (c *Certificates) List() []Stored {
	var list []Stored
	taken := map[string]int{}
	for _, key := range c.issuerKeys {
		for _, stored := range c.shelf.list(c.siteFolders(key), key) {
			i, double := taken[stored.Name]
			switch {
			case !double:
				taken[stored.Name] = len(list)
				list = append(list, stored)
			case stored.NotBefore.After(list[i].NotBefore):
				list[i] = stored // certmagic serves the newest
			}
		}
	}
	slices.SortFunc(list, func(a, b Stored) int { return strings.Compare(a.Name, b.Name) })
	return append(list, c.files.list()...)
}

// list reads what is new in the folder of an issuer.
func (s *shelf) list(folder, issuerKey string) []Stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read == nil {
		s.read = map[string]shelved{}
	}
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.crt"))
	if err != nil {
		return nil // the pattern is our own
	}
	list := make([]Stored, 0, len(files))
	present := make(map[string]bool, len(files))
	for _, file := range files {
		now, err := stampOf(file)
		if err != nil {
			continue // gone meanwhile
		}
		present[file] = true
		if known, ok := s.read[file]; !ok || known.stamp != now {
			s.read[file] = shelved{now, readStored(file, issuerKey)}
		}
		list = append(list, s.read[file].stored)
	}
	for file := range s.read {
		if strings.HasPrefix(file, folder+string(filepath.Separator)) && !present[file] {
			delete(s.read, file)
		}
	}
	return list
}

func readStored(file, issuerKey string) Stored {
	base := strings.TrimSuffix(file, ".crt")
	stored := Stored{Name: nameOfFile(filepath.Base(base)), Source: SourceACME, Files: []string{file, base + ".key"}}
	if issuerKey == localIssuerKey {
		stored.Source = SourceLocal
	}
	leaf, err := readLeaf(file)
	if err != nil {
		stored.Problem = err.Error()
		return stored
	}
	stored.describe(leaf)
	if mark, ok := readMark(base); ok && mark.Serial == stored.Serial {
		stored.Source, stored.From = SourceImported, mark.From
	}
	return stored
}

func (s *Stored) describe(leaf *x509.Certificate) {
	s.Names = hostNames(leaf)
	s.Issuer = leaf.Issuer.CommonName
	if s.Issuer == "" && len(leaf.Issuer.Organization) > 0 {
		s.Issuer = leaf.Issuer.Organization[0]
	}
	s.Serial = leaf.SerialNumber.Text(16)
	s.NotBefore, s.NotAfter = leaf.NotBefore, leaf.NotAfter
}

// hostNames returns the hosts that a certificate holds for, in lower case; the common name where there is nothing else.
func hostNames(leaf *x509.Certificate) []string {
	list := make([]string, 0, len(leaf.DNSNames))
	for _, name := range leaf.DNSNames {
		list = append(list, strings.ToLower(strings.TrimSuffix(name, ".")))
	}
	if len(list) == 0 && strings.Contains(leaf.Subject.CommonName, ".") {
		list = append(list, strings.ToLower(leaf.Subject.CommonName))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func readLeaf(file string) (*x509.Certificate, error) {
	chain, err := readChain(file)
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

// readChain returns the certificates of a file: at least one.
func readChain(file string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	chain, err := parseChain(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return chain, nil
}

func parseChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, certificate)
	}
	if len(chain) == 0 {
		return nil, errors.New("it holds no certificate: it must be PEM, -----BEGIN CERTIFICATE-----")
	}
	return chain, nil
}

// Detail is what is known of one certificate, and of its name.
type Detail struct {
	Stored
	Held []Link // the chain, the certificate itself first
	// RenewFrom and RenewUntil are the window that the CA wants it to be renewed in (RFC 9773); zero if it named none.
	RenewFrom, RenewUntil time.Time
	Failure               *Attempt // the last one, if no certificate was had since
}

// Link is a certificate of a chain.
type Link struct {
	Subject, Issuer string
	NotAfter        time.Time
}

// Find returns what is known of a name: the certificate that is stored for it, or for its wildcard, or that is in files, and
// its last failure. It is false if nothing is.
func (c *Certificates) Find(name string) (Detail, bool) {
	d := Detail{}
	list := c.List()
	for _, wanted := range []string{name, wildcardOf(name)} {
		if i := slices.IndexFunc(list, func(s Stored) bool { return s.Name == wanted }); i >= 0 && wanted != "" {
			d.Stored = list[i]
			break
		}
	}
	if attempt, failed := c.back.last(name); failed {
		d.Failure = &attempt
	}
	if d.Name == "" {
		d.Name = name
		return d, d.Failure != nil
	}
	d.readMore()
	return d, true
}

func (d *Detail) readMore() {
	chain, err := readChain(d.Files[0])
	if err != nil {
		return // Problem says it
	}
	for _, link := range chain {
		d.Held = append(d.Held, Link{link.Subject.String(), link.Issuer.String(), link.NotAfter})
	}
	if info, ok := readRenewal(strings.TrimSuffix(d.Files[0], ".crt") + ".json"); ok {
		d.RenewFrom, d.RenewUntil = info.SuggestedWindow.Start, info.SuggestedWindow.End
	}
}

// readRenewal reads what the CA said of the renewal, as certmagic keeps it.
func readRenewal(file string) (acme.RenewalInfo, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return acme.RenewalInfo{}, false
	}
	var resource certmagic.CertificateResource
	var issued acme.Certificate
	if json.Unmarshal(text, &resource) != nil || json.Unmarshal(resource.IssuerData, &issued) != nil || issued.RenewalInfo == nil {
		return acme.RenewalInfo{}, false
	}
	return *issued.RenewalInfo, issued.RenewalInfo.HasWindow()
}

// lockOf is the name of the lock under which certmagic obtains and renews the certificate of a name.
func lockOf(name string) string { return "issue_cert_" + name }

// locked does something with a name's files while nobody else does.
func (c *Certificates) locked(ctx context.Context, name string, do func() error) error {
	if err := c.storage.Lock(ctx, lockOf(name)); err != nil {
		return fmt.Errorf("the certificate of %s is being worked on: %w", name, err)
	}
	return errors.Join(do(), c.storage.Unlock(context.WithoutCancel(ctx), lockOf(name)))
}

// discard removes a stored certificate from the disk and from memory.
func (c *Certificates) discard(ctx context.Context, name string) error {
	err := c.locked(ctx, name, func() error {
		var problems []error
		for _, key := range c.issuerKeys {
			problems = append(problems, os.RemoveAll(filepath.Join(c.options.Dir, certmagic.StorageKeys.CertsSitePrefix(key, name))))
		}
		return errors.Join(problems...)
	})
	c.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name}})
	c.findKept()
	return err
}
