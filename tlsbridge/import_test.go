package tlsbridge

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cutover/tlsbridge/importing/layouts"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newTestCA(t *testing.T) *layouts.CA {
	t.Helper()
	ca, err := layouts.NewCA()
	must(t, err)
	return ca
}

func issue(t *testing.T, ca *layouts.CA, from, to time.Duration, names ...string) layouts.Pair {
	t.Helper()
	pair, err := ca.Issue(from, to, names...)
	must(t, err)
	return pair
}

// openKeeper opens certificates that issue nothing, for names of example.com, unless change says otherwise.
func openKeeper(t *testing.T, change func(*CertificateOptions)) *Certificates {
	t.Helper()
	o := CertificateOptions{
		Dir: t.TempDir(), Issuer: IssuerOff, Directory: "https://ca.test/dir", Allowed: func(name string) bool { return strings.HasSuffix(name, "example.com") },
	}
	if change != nil {
		change(&o)
	}
	c, err := NewCertificates(o)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// served returns the certificate that a visitor of name gets; nil for none.
func served(t *testing.T, c *Certificates, name string) *tls.Certificate {
	t.Helper()
	hello := &tls.ClientHelloInfo{
		ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13}, SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, Conn: noConn{},
		CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
	}
	certificate, err := c.getCertificate(hello)
	if err != nil {
		return nil
	}
	return certificate
}

func expectServed(t *testing.T, c *Certificates, name string, pair layouts.Pair) {
	t.Helper()
	block, _ := pem.Decode(pair.Leaf)
	got := served(t, c, name)
	if got == nil || !slices.Equal(got.Certificate[0], block.Bytes) {
		t.Errorf("%s is served %v, not the certificate that is wanted", name, got)
	}
}

func imported(t *testing.T, c *Certificates, pair layouts.Pair) []Placed {
	t.Helper()
	list, err := c.Import(t.Context(), Pair{pair.Chain(), pair.Key, "certbot"}, false)
	must(t, err)
	return list
}

func TestAnImportedCertificateIsServedAtOnceForAllItsNames(t *testing.T) {
	c := openKeeper(t, nil)
	pair := issue(t, newTestCA(t), -day, 60*day, "shop.example.com", "www.example.com")
	for _, placed := range imported(t, c, pair) {
		if !placed.Stored {
			t.Errorf("%+v", placed)
		}
	}
	expectServed(t, c, "shop.example.com", pair)
	expectServed(t, c, "www.example.com", pair)
	if served(t, c, "other.example.com") != nil {
		t.Error("another host is served it, too")
	}
	list := c.List()
	if len(list) != 2 || list[0].Source != SourceImported || list[0].From != "certbot" || list[0].Name != "shop.example.com" {
		t.Errorf("%+v", list)
	}
}

func TestAnImportedCertificateIsServedByAnotherProcessOnTheSameStorage(t *testing.T) {
	first := openKeeper(t, nil)
	second := openKeeper(t, func(o *CertificateOptions) { o.Dir = first.options.Dir })
	pair := issue(t, newTestCA(t), -day, 60*day, "shop.example.com")
	imported(t, first, pair)
	second.findNew() // as it does every minute
	expectServed(t, second, "shop.example.com", pair)
}

func TestAnImportedWildcardIsServedForEveryNameBelowIt(t *testing.T) {
	c := openKeeper(t, nil)
	pair := issue(t, newTestCA(t), -day, 60*day, "*.example.com")
	imported(t, c, pair)
	expectServed(t, c, "shop.example.com", pair)
	if !c.Ready("other.example.com") || c.Ready("a.b.example.com") || c.Ready("example.com") {
		t.Error("it is taken for ready where it does not hold, or not where it does")
	}
	detail, known := c.Find("shop.example.com")
	if !known || detail.Name != "*.example.com" || len(detail.Held) != 2 {
		t.Errorf("%+v", detail)
	}
}

func TestAWildcardIsServedAfterARestartWhereItsNamesAreNotInTheRules(t *testing.T) {
	first := openKeeper(t, nil)
	pair := issue(t, newTestCA(t), -day, 60*day, "*.example.org")
	imported(t, first, pair)
	second := openKeeper(t, func(o *CertificateOptions) { o.Dir = first.options.Dir })
	expectServed(t, second, "shop.example.org", pair)
}

func TestTheChainIsPutInOrderAndItsRootLeftOut(t *testing.T) {
	c := openKeeper(t, nil)
	ca := newTestCA(t)
	pair := issue(t, ca, -day, 60*day, "shop.example.com")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Root.Raw})
	mixed := append(append(append([]byte{}, root...), pair.Intermediate...), pair.Leaf...)
	list, err := c.Import(t.Context(), Pair{mixed, pair.Key, "folder"}, false)
	must(t, err)
	text, err := os.ReadFile(c.List()[0].Files[0])
	must(t, err)
	if !list[0].Stored || list[0].Reason != "" || string(text) != string(pair.Chain()) {
		t.Errorf("%+v, and the file is\n%s", list, text)
	}
}

func TestACertificateWithoutItsIntermediateIsStoredWithAWarning(t *testing.T) {
	c := openKeeper(t, nil)
	pair := issue(t, newTestCA(t), -day, 60*day, "shop.example.com")
	list, err := c.Import(t.Context(), Pair{pair.Leaf, pair.Key, "folder"}, false)
	must(t, err)
	if !list[0].Stored || !strings.Contains(list[0].Reason, "intermediate") {
		t.Errorf("%+v", list)
	}
}

func TestWhatCannotBeServedIsNotImported(t *testing.T) {
	ca := newTestCA(t)
	good := issue(t, ca, -day, 60*day, "shop.example.com")
	expired, early := issue(t, ca, -90*day, -day, "shop.example.com"), issue(t, ca, day, 60*day, "shop.example.com")
	nameless := issue(t, ca, -day, 60*day, "../../etc/passwd")
	for want, pair := range map[string]Pair{
		"does not belong":      {good.Chain(), expired.Key, ""},
		"it expired on":        {expired.Chain(), expired.Key, ""},
		"it begins on":         {early.Chain(), early.Key, ""},
		"no certificate":       {[]byte("nonsense"), good.Key, ""},
		"the key cannot":       {good.Chain(), []byte("nonsense"), ""},
		"it holds for no host": {nameless.Chain(), nameless.Key, ""},
	} {
		c := openKeeper(t, nil)
		if list, err := c.Import(t.Context(), pair, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %+v, %v", want, list, err)
		}
		if len(c.List()) != 0 {
			t.Errorf("%s: it was stored all the same", want)
		}
	}
}

func TestAStoredCertificateIsKeptWhereItIsNewerOrLastsLonger(t *testing.T) {
	c := openKeeper(t, nil)
	ca := newTestCA(t)
	stored := issue(t, ca, -10*day, 50*day, "shop.example.com")
	imported(t, c, stored)
	for reason, pair := range map[string]layouts.Pair{
		"newer":         issue(t, ca, -20*day, 70*day, "shop.example.com"),
		"lasts longer":  issue(t, ca, -2*day, 20*day, "shop.example.com"),
		"there already": stored,
	} {
		if list := imported(t, c, pair); list[0].Stored || !strings.Contains(list[0].Reason, reason) {
			t.Errorf("%s: %+v", reason, list)
		}
	}
	expectServed(t, c, "shop.example.com", stored)
	better := issue(t, ca, -day, 80*day, "shop.example.com")
	imported(t, c, better)
	expectServed(t, c, "shop.example.com", better)
}

func TestADryRunStoresNothing(t *testing.T) {
	c := openKeeper(t, nil)
	pair := issue(t, newTestCA(t), -day, 60*day, "shop.example.com")
	list, err := c.Import(t.Context(), Pair{pair.Chain(), pair.Key, "certbot"}, true)
	must(t, err)
	if !list[0].Stored || len(c.List()) != 0 || served(t, c, "shop.example.com") != nil {
		t.Errorf("%+v, stored: %+v", list, c.List())
	}
}

func TestImportedFilesAreForTheirOwnerAlone(t *testing.T) {
	c := openKeeper(t, nil)
	imported(t, c, issue(t, newTestCA(t), -day, 60*day, "*.example.com"))
	must(t, filepath.WalkDir(c.options.Dir, func(path string, entry os.DirEntry, err error) error {
		must(t, err)
		info, err := entry.Info()
		must(t, err)
		if path != c.options.Dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	}))
}

func TestAWildcardThatHasEndedIsDiscardedAndAnImportedOneOfSeveralNamesIsRenewedByName(t *testing.T) {
	c := openKeeper(t, func(o *CertificateOptions) { o.Issuer = IssuerLocal })
	ca := newTestCA(t)
	both := issue(t, ca, -80*day, 10*day, "shop.example.com", "unruled.example.org", "www.example.com")
	imported(t, c, both)
	ended := &checkedPair{Pair: Pair{}}
	pair := issue(t, ca, -80*day, -day, "*.example.com")
	ended.Certificate, ended.Key = pair.Chain(), pair.Key
	chain, err := parseChain(pair.Chain())
	must(t, err)
	ended.leaf = chain[0]
	must(t, c.store(t.Context(), ended, "*.example.com"))
	c.tend(t.Context())
	c.renewDue(t.Context())
	sources := map[string]string{}
	for _, stored := range c.List() {
		sources[stored.Name] = stored.Source
	}
	want := map[string]string{"shop.example.com": SourceLocal, "www.example.com": SourceLocal, "unruled.example.org": SourceImported}
	if len(sources) != len(want) {
		t.Errorf("stored: %v", sources)
	}
	for name, source := range want {
		if sources[name] != source {
			t.Errorf("%s is %q, want %q", name, sources[name], source)
		}
	}
	for _, name := range []string{"shop.example.com", "www.example.com"} {
		if got := served(t, c, name); got == nil || got.Leaf.VerifyHostname(name) != nil || len(got.Leaf.DNSNames) != 1 {
			t.Errorf("%s is served %+v", name, got)
		}
	}
}

func TestAStrangersNameBelowAWildcardThatIsDueIsServedWithoutAnyAttempt(t *testing.T) {
	c := openKeeper(t, func(o *CertificateOptions) { o.Issuer = IssuerLocal })
	pair := issue(t, newTestCA(t), -80*day, 10*day, "*.example.org")
	imported(t, c, pair)
	must(t, os.RemoveAll(filepath.Join(c.options.Dir, "locks")))
	for range 20 {
		expectServed(t, c, "stranger.example.org", pair)
	}
	if _, err := os.Stat(filepath.Join(c.options.Dir, "locks")); err == nil {
		t.Error("something was locked in order to be issued")
	}
}

func TestARevokedCertificateOfTheLocalCAIsGoneUnderAllItsNames(t *testing.T) {
	c := openKeeper(t, func(o *CertificateOptions) { o.Issuer = IssuerLocal })
	imported(t, c, issue(t, newTestCA(t), -day, 60*day, "shop.example.org", "www.example.org"))
	names, err := c.Revoke(t.Context(), "www.example.org", 0)
	must(t, err)
	if !slices.Equal(names, []string{"shop.example.org", "www.example.org"}) || len(c.List()) != 0 || served(t, c, "shop.example.org") != nil {
		t.Errorf("revoked %v, left %+v", names, c.List())
	}
	if _, err := c.Revoke(context.WithoutCancel(t.Context()), "www.example.org", 0); err == nil {
		t.Error("it was revoked again")
	}
}

func TestAShortLifeIsRenewedAtItsHalf(t *testing.T) {
	now := time.Now()
	for _, each := range []struct {
		from, to time.Duration
		due      bool
	}{
		{-2 * day, 4 * day, false}, {-3*day - time.Hour, 3 * day, true}, // six days
		{-50 * day, 40 * day, false}, {-61 * day, 29 * day, true}, // ninety
	} {
		if got := due(now.Add(each.from), now.Add(each.to), now); got != each.due {
			t.Errorf("from %v to %v: due is %v", each.from, each.to, got)
		}
	}
}

func TestExpiringIsSevenDaysOrTheLastQuarterOfAShortLife(t *testing.T) {
	now := time.Now()
	for _, each := range []struct {
		from, to time.Duration
		expiring bool
	}{{-80 * day, 10 * day, false}, {-84 * day, 6 * day, true}, {-2 * day, 4 * day, false}, {-5 * day, day, true}, {-90 * day, -day, true}} {
		stored := Stored{NotBefore: now.Add(each.from), NotAfter: now.Add(each.to)}
		if got := stored.Expiring(now); got != each.expiring {
			t.Errorf("from %v to %v: expiring is %v", each.from, each.to, got)
		}
	}
}
