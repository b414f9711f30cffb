package tlsbridge

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// Pair is a certificate with its chain and its key, as PEM, from somewhere else.
type Pair struct {
	Certificate, Key []byte
	From             string // what it comes from, such as "certbot"
}

// Placed says what became of a pair, or would have, for one name.
type Placed struct {
	Name     string
	NotAfter time.Time
	Stored   bool
	Reason   string // why it was not stored; or what is worth knowing although it was
}

// Import stores a pair for each host that its certificate holds for, so that it is served at once and renewed from then on. A
// name keeps what is stored for it where that is newer or lasts longer. With dryRun nothing is stored. The error says why
// the pair is of no use at all.
func (c *Certificates) Import(ctx context.Context, pair Pair, dryRun bool) ([]Placed, error) {
	checked, err := checkPair(pair, time.Now())
	if err != nil {
		return nil, err
	}
	list := make([]Placed, 0, len(checked.names))
	for _, name := range checked.names {
		list = append(list, c.place(ctx, checked, name, dryRun))
	}
	if !dryRun {
		c.findKept()
		c.warmPlaced(ctx, list)
	}
	return list, nil
}

// checkedPair is a pair that can be served.
type checkedPair struct {
	Pair
	leaf  *x509.Certificate
	names []string
	note  string
}

func checkPair(pair Pair, now time.Time) (*checkedPair, error) {
	chain, err := parseChain(pair.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := certmagic.PEMDecodePrivateKey(pair.Key)
	if err != nil {
		return nil, fmt.Errorf("the key cannot be read; one with a passphrase cannot be used: %w", err)
	}
	ordered, whole, err := orderChain(chain, key)
	if err != nil {
		return nil, err
	}
	p := &checkedPair{Pair: pair, leaf: ordered[0], names: importable(hostNames(ordered[0]))}
	p.Certificate = nil
	for _, link := range ordered {
		p.Certificate = append(p.Certificate, encodeCertificate(link.Raw)...)
	}
	if !whole {
		p.note = "its chain has no intermediate certificate: some clients will not trust it"
	}
	return p, p.usable(now)
}

func (p *checkedPair) usable(now time.Time) error {
	switch {
	case len(p.names) == 0:
		return errors.New("it holds for no host")
	case now.After(p.leaf.NotAfter):
		return fmt.Errorf("it expired on %s", p.leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(p.leaf.NotBefore):
		return fmt.Errorf("it begins on %s only", p.leaf.NotBefore.UTC().Format(time.RFC3339))
	case len(p.leaf.ExtKeyUsage) > 0 && !slices.ContainsFunc(p.leaf.ExtKeyUsage, forServers):
		return errors.New("it is not meant for servers")
	}
	_, err := tls.X509KeyPair(p.Certificate, p.Key)
	return err
}

func forServers(usage x509.ExtKeyUsage) bool {
	return usage == x509.ExtKeyUsageServerAuth || usage == x509.ExtKeyUsageAny
}

// importable leaves out what is no host name, so that no name becomes a path of somebody else's choice.
func importable(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		host := strings.TrimPrefix(name, "*.")
		return strings.ContainsAny(host, "/\\* ") || certmagic.StorageKeys.Safe(host) != host || !certmagic.SubjectQualifiesForCert(host)
	})
}

// orderChain returns the certificate that belongs to the key, then the one that signed it, and so on up to the root, which is
// left out. whole says that something between the certificate and a root is there, or that it needs nothing.
func orderChain(chain []*x509.Certificate, key crypto.Signer) (ordered []*x509.Certificate, whole bool, err error) {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, false, errors.New("the key is of a kind that cannot be used")
	}
	first := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return public.Equal(c.PublicKey) })
	if first < 0 {
		return nil, false, errors.New("the key does not belong to the certificate")
	}
	ordered = []*x509.Certificate{chain[first]}
	for last := chain[first]; !isRoot(last); {
		next := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return c.IsCA && last.CheckSignatureFrom(c) == nil })
		if next < 0 || len(ordered) > len(chain) {
			return ordered, len(ordered) > 1, nil
		}
		last = chain[next]
		if isRoot(last) {
			break
		}
		ordered = append(ordered, last)
	}
	return ordered, true, nil
}

func isRoot(c *x509.Certificate) bool {
	return string(c.RawSubject) == string(c.RawIssuer)
}

// place stores a pair under one name, unless what is there is better.
func (c *Certificates) place(ctx context.Context, p *checkedPair, name string, dryRun bool) Placed {
	placed := Placed{Name: name, NotAfter: p.leaf.NotAfter, Reason: p.note}
	if c.options.Issuer == IssuerACME && strings.HasPrefix(name, "*.") && !c.allowed(name) {
		placed.Reason = c.wildcardNote(name)
	}
	if reason := c.better(p.leaf, name); reason != "" {
		placed.Reason = reason
		return placed
	}
	if dryRun {
		placed.Stored = true
		return placed
	}
	if err := c.locked(ctx, name, func() error { return c.store(ctx, p, name) }); err != nil {
		placed.Reason = err.Error()
		return placed
	}
	placed.Stored = true
	return placed
}

// better says why what is stored for a name is kept; "" if it is not.
func (c *Certificates) better(leaf *x509.Certificate, name string) string {
	for _, key := range c.issuerKeys {
		there, err := readLeaf(filepath.Join(c.options.Dir, certmagic.StorageKeys.SiteCert(key, name)))
		switch {
		case err != nil:
		case there.Equal(leaf):
			return "it is there already"
		case time.Now().After(there.NotAfter):
		case !there.NotBefore.Before(leaf.NotBefore):
			return "kept the stored one, which is newer: of " + there.NotBefore.UTC().Format(time.DateOnly)
		case !there.NotAfter.Before(leaf.NotAfter):
			return "kept the stored one, which lasts longer: until " + there.NotAfter.UTC().Format(time.DateOnly)
		}
	}
	return ""
}

// store writes the files under the issuer in use. The mark comes first: whoever reads the new certificate finds it.
func (c *Certificates) store(ctx context.Context, p *checkedPair, name string) error {
	key := c.issuerKeys[0]
	meta, err := json.MarshalIndent(certmagic.CertificateResource{SANs: []string{name}}, "", "\t")
	if err != nil {
		return err
	}
	if err := c.writeMark(key, name, mark{Serial: p.leaf.SerialNumber.Text(16), From: p.From, At: time.Now().UTC()}); err != nil {
		return err
	}
	for _, file := range []struct {
		key  string
		data []byte
	}{
		{certmagic.StorageKeys.SitePrivateKey(key, name), p.Key},
		{certmagic.StorageKeys.SiteCert(key, name), p.Certificate},
		{certmagic.StorageKeys.SiteMeta(key, name), meta},
	} {
		if err := c.storage.Store(ctx, file.key, file.data); err != nil {
			return err
		}
	}
	return nil
}

// warmPlaced takes what was stored into memory, in the place of what was there.
func (c *Certificates) warmPlaced(ctx context.Context, list []Placed) {
	for _, placed := range list {
		if !placed.Stored {
			continue
		}
		c.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: placed.Name}})
		if err := c.back.forget(ctx, placed.Name); err != nil {
			c.options.Log.Warn("a failed attempt from before is still kept", slog.String("name", placed.Name), slog.Any("error", err))
		}
		if c.options.Allowed(placed.Name) || strings.HasPrefix(placed.Name, "*.") {
			c.warm(ctx, placed.Name)
		}
	}
}

// mark stands beside an imported certificate. It holds for that one alone: a renewal makes it void.
type mark struct {
	Serial string    `json:"serial"`
	From   string    `json:"from"`
	At     time.Time `json:"at"`
}

const markEnding = ".imported"

func readMark(base string) (mark, bool) {
	var m mark
	text, err := os.ReadFile(base + markEnding)
	return m, err == nil && json.Unmarshal(text, &m) == nil
}

func (c *Certificates) writeMark(issuerKey, name string, m mark) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	base := strings.TrimSuffix(filepath.Join(c.options.Dir, certmagic.StorageKeys.SiteCert(issuerKey, name)), ".crt")
	if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
		return err
	}
	return writeAtomically(base+markEnding, text)
}
