package tlsbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkListOfManyStoredCertificates is what the status and the metrics ask for again and again.
func BenchmarkListOfManyStoredCertificates(b *testing.B) {
	c, err := NewCertificates(CertificateOptions{Dir: b.TempDir(), Issuer: IssuerLocal, Allowed: func(string) bool { return true }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	text, err := os.ReadFile(filepath.Join(c.options.Dir, "local", "root.pem"))
	if err != nil {
		b.Fatal(err)
	}
	for i := range 20_000 {
		name := fmt.Sprintf("shop-%d.example.com", i)
		folder := filepath.Join(c.siteFolders(localIssuerKey), name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name+".crt"), text, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	if n := len(c.List()); n != 20_000 {
		b.Fatalf("%d are listed", n)
	}
	for b.Loop() {
		c.List()
	}
}
