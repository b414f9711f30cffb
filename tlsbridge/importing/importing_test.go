package importing

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cutover/tlsbridge/importing/layouts"
)

const day = 24 * time.Hour

func issue(t *testing.T, names ...string) layouts.Pair {
	t.Helper()
	ca, err := layouts.NewCA()
	must(t, err)
	pair, err := ca.Issue(-day, 60*day, names...)
	must(t, err)
	return pair
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// expect reads a place without being told what it is.
func expect(t *testing.T, path string, kind Kind, wanted ...layouts.Pair) *Found {
	t.Helper()
	found, err := Read(path, "")
	must(t, err)
	if found.Kind != kind {
		t.Errorf("it is taken for %s, not %s", found.Kind, kind)
	}
	if len(found.Pairs) != len(wanted) {
		t.Fatalf("%d pairs, want %d; skipped: %v", len(found.Pairs), len(wanted), found.Skipped)
	}
	for _, pair := range wanted {
		i := slices.IndexFunc(found.Pairs, func(p Pair) bool { return bytes.Equal(p.Certificate, pair.Chain()) && bytes.Equal(p.Key, pair.Key) })
		if i < 0 {
			t.Errorf("a pair was not found: %v", found.Pairs)
			continue
		}
		if _, err := tls.X509KeyPair(found.Pairs[i].Certificate, found.Pairs[i].Key); err != nil || found.Pairs[i].Where == "" {
			t.Errorf("%q: %v", found.Pairs[i].Where, err)
		}
	}
	return found
}

func TestCertbotsNewestPairsAreReadThroughItsSymlinks(t *testing.T) {
	root := t.TempDir()
	older, newer, other := issue(t, "shop.example.com"), issue(t, "shop.example.com", "www.example.com"), issue(t, "*.example.org", "example.org")
	must(t, layouts.Certbot(root, "shop.example.com", older, newer))
	must(t, layouts.Certbot(root, "example.org", other))
	expect(t, root, Certbot, newer, other)
	expect(t, filepath.Join(root, "live"), Certbot, newer, other)
}

func TestACopyOfCertbotsFolderWithoutItsSymlinksIsReadFromTheArchive(t *testing.T) {
	root := t.TempDir()
	var pairs []layouts.Pair
	for range 11 {
		pairs = append(pairs, issue(t, "shop.example.com"))
	}
	must(t, layouts.Certbot(root, "shop.example.com", pairs...))
	must(t, os.RemoveAll(filepath.Join(root, "live")))
	expect(t, root, Certbot, pairs[10])
}

func TestALineageOfCertbotWithoutFilesIsSkippedAndSaid(t *testing.T) {
	root := t.TempDir()
	whole := issue(t, "shop.example.com")
	must(t, layouts.Certbot(root, "shop.example.com", whole))
	must(t, layouts.Certbot(root, "gone.example.com", issue(t, "gone.example.com")))
	must(t, os.RemoveAll(filepath.Join(root, "archive", "gone.example.com")))
	found := expect(t, root, Certbot, whole)
	if len(found.Skipped) != 1 || !strings.Contains(found.Skipped[0].Where, "gone.example.com") {
		t.Errorf("skipped: %v", found.Skipped)
	}
}

func TestCertbotsAccountKeyIsTurnedIntoPEM(t *testing.T) {
	root := t.TempDir()
	must(t, layouts.Certbot(root, "shop.example.com", issue(t, "shop.example.com")))
	key, err := layouts.CertbotAccount(root, "acme-v02.api.letsencrypt.org", "https://acme-v02.api.letsencrypt.org/acme/acct/42")
	must(t, err)
	found, err := Read(root, Certbot)
	must(t, err)
	if len(found.Accounts) != 1 || found.Accounts[0].Location != "https://acme-v02.api.letsencrypt.org/acme/acct/42" {
		t.Fatalf("accounts: %+v, skipped: %v", found.Accounts, found.Skipped)
	}
	if got := rsaKey(t, found.Accounts[0].Key); !got.Equal(key) {
		t.Error("it is another key")
	}
}

func rsaKey(t *testing.T, text []byte) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("it is no PEM")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	must(t, err)
	return key
}

func TestTraefiksFileIsReadOfAllItsVersions(t *testing.T) {
	for _, old := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "acme.json")
		shop, wildcard := issue(t, "shop.example.com"), issue(t, "*.example.com")
		must(t, layouts.Traefik(path, old, map[string]layouts.Pair{"shop.example.com": shop, "*.example.com": wildcard}))
		found := expect(t, path, Traefik, shop, wildcard)
		if len(found.Accounts) != 1 || found.Accounts[0].Contact != "ops@example.com" || !strings.Contains(found.Accounts[0].Location, "/acct/1") {
			t.Errorf("accounts: %+v", found.Accounts)
		}
		rsaKey(t, found.Accounts[0].Key)
	}
}

func TestAFileThatIsNotTraefiksIsAnError(t *testing.T) {
	for _, text := range []string{"", "{}", "[1]", `{"a": 1}`, "not JSON"} {
		path := filepath.Join(t.TempDir(), "acme.json")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if found, err := Read(path, ""); err == nil {
			t.Errorf("%q was read: %+v", text, found)
		}
	}
}

func TestCaddysDataFolderIsReadButNotItsOwnCA(t *testing.T) {
	root := t.TempDir()
	shop := issue(t, "shop.example.com")
	must(t, layouts.Caddy(root, "shop.example.com", shop, issue(t, "localhost")))
	found := expect(t, root, Caddy, shop)
	if len(found.Skipped) != 1 || !strings.Contains(found.Skipped[0].Where, "localhost") {
		t.Errorf("skipped: %v", found.Skipped)
	}
}

func TestACertmagicFolderIsReadWithWildcards(t *testing.T) {
	root := t.TempDir()
	shop, wildcard := issue(t, "shop.example.com"), issue(t, "*.example.com")
	must(t, layouts.Certmagic(root, "acme-v02.api.letsencrypt.org-directory", "shop.example.com", shop))
	must(t, layouts.Certmagic(root, "acme.zerossl.com-v2-dv90", "*.example.com", wildcard))
	expect(t, root, Certmagic, shop, wildcard)
	expect(t, filepath.Join(root, "certificates"), Certmagic, shop, wildcard)
}

func TestAFolderOfPairsIsReadAndACertificateWithoutKeyIsSkipped(t *testing.T) {
	root := t.TempDir()
	shop := issue(t, "shop.example.com")
	must(t, layouts.Folder(root, "shop", shop))
	must(t, layouts.Folder(root, "lost", issue(t, "lost.example.com")))
	must(t, os.Remove(filepath.Join(root, "lost.key")))
	found := expect(t, root, Folder, shop)
	if len(found.Skipped) != 1 || !strings.Contains(found.Skipped[0].Reason, "lost.key") {
		t.Errorf("skipped: %v", found.Skipped)
	}
}

func TestAPlaceOfNoKnownLayoutIsAnErrorUnlessItIsSaidWhatItIs(t *testing.T) {
	root := t.TempDir()
	if _, err := Read(root, ""); !errors.Is(err, ErrUnknown) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Read(filepath.Join(root, "nothing"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing at all: %v", err)
	}
	if _, err := Read(root, "nginx"); err == nil {
		t.Error("an unknown kind was read")
	}
	if found, err := Read(root, Folder); err != nil || len(found.Pairs) != 0 {
		t.Errorf("an empty folder of pairs: %+v, %v", found, err)
	}
}
