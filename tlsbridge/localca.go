package tlsbridge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	localRootYears = 10
	localLeafDays  = 7
)

// localCA is a CA of our own, for development: https without a network. Its root is root.pem in its folder.
type localCA struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
}

// openLocalCA reads the CA's key and root, or makes them.
func openLocalCA(dir string) (*localCA, error) {
	keyPEM, keyErr := os.ReadFile(filepath.Join(dir, "root.key"))
	rootPEM, rootErr := os.ReadFile(filepath.Join(dir, "root.pem"))
	if errors.Is(keyErr, fs.ErrNotExist) && errors.Is(rootErr, fs.ErrNotExist) {
		return makeLocalCA(dir)
	}
	if err := errors.Join(keyErr, rootErr); err != nil {
		return nil, err
	}
	ca, err := parseLocalCA(keyPEM, rootPEM)
	if err != nil {
		return nil, fmt.Errorf("%s: %w (delete the folder, and a new CA is made)", dir, err)
	}
	return ca, nil
}

func parseLocalCA(keyPEM, rootPEM []byte) (*localCA, error) {
	keyBlock, _ := pem.Decode(keyPEM)
	rootBlock, _ := pem.Decode(rootPEM)
	if keyBlock == nil || rootBlock == nil {
		return nil, errors.New("root.key or root.pem is not PEM")
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(rootBlock.Bytes)
	if err != nil {
		return nil, err
	}
	return &localCA{key, root}, nil
}

func makeLocalCA(dir string) (*localCA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Cutover local CA, for development only"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(localRootYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		writeAtomically(filepath.Join(dir, "root.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})),
		writeAtomically(filepath.Join(dir, "root.pem"), encodeCertificate(der)),
	)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	return &localCA{key, root}, err
}

func (ca *localCA) sign(csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), DNSNames: csr.DNSNames, IPAddresses: csr.IPAddresses,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, localLeafDays),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.root, csr.PublicKey, ca.key)
	if err != nil {
		return nil, err
	}
	return &certmagic.IssuedCertificate{Certificate: encodeCertificate(der)}, nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// serial returns 127 random bits: positive, and at most 20 octets (RFC 5280 §4.1.2.2).
func serial() *big.Int {
	var bytes [16]byte
	_, _ = rand.Read(bytes[:]) // never fails: crypto/rand ends the program instead
	bytes[0] &= 0x7f
	return new(big.Int).SetBytes(bytes[:])
}
