package acme

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/scripts/e2e/pebble"
	"cutover/tlsbridge"
	"cutover/tlsbridge/importing/layouts"
)

const day = 24 * time.Hour

// bringIn imports a certificate of another CA, valid from and to such times away from now.
func bringIn(t *testing.T, e *edge, from, to time.Duration, names ...string) {
	t.Helper()
	ca, err := layouts.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(from, to, names...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := e.certificates.Import(t.Context(), tlsbridge.Pair{Certificate: pair.Chain(), Key: pair.Key, From: "certbot"}, false)
	if err != nil || !list[0].Stored {
		t.Fatalf("%+v, %v", list, err)
	}
}

// issuer returns who signed the certificate that a visitor gets.
func (e *edge) issuer(t *testing.T, name string) string {
	t.Helper()
	return leaf(mustShake(t, e, name, nil)).Issuer.CommonName
}

func TestARenewalOfAnotherAccountsCertificateIsOrderedWithoutSayingWhatItReplaces(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, func(o *pebble.Options) { o.Validity = 20 })
	dir := t.TempDir()
	e := startEdge(t, s, ca, dir, nil)
	first := leaf(mustShake(t, e, "account.test", nil))
	e.stop()
	accounts, err := filepath.Glob(filepath.Join(dir, "acme", "*", "users"))
	if err != nil || len(accounts) != 1 {
		t.Fatalf("accounts: %v, %v", accounts, err)
	}
	if err := os.RemoveAll(accounts[0]); err != nil {
		t.Fatal(err)
	}
	e = startEdge(t, s, ca, dir, func(o *tlsbridge.CertificateOptions) { o.RenewEvery = time.Second })
	waitFor(t, 60*time.Second, "renewal", func() bool { return !bytes.Equal(leaf(mustShake(t, e, "account.test", nil)).Raw, first.Raw) })
	if ca.Stats().Replaces == 0 {
		t.Error("no order said what it replaces")
	}
}

func TestAnImportedCertificateIsRenewedForEachOfItsNames(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) { o.RenewEvery = time.Second })
	bringIn(t, e, -80*day, 10*day, "other.test", "shop.test", "unruled.test")
	for _, name := range []string{"other.test", "shop.test"} {
		waitFor(t, 60*time.Second, "certificate of our own for "+name, func() bool { return strings.HasPrefix(e.issuer(t, name), "Pebble") })
	}
	if issuer := e.issuer(t, "unruled.test"); issuer != "Test Intermediate" {
		t.Errorf("a name that is not in the rules is served a certificate of %q", issuer)
	}
	if ca.Stats().Replaces != 0 {
		t.Error("the CA was told that a certificate of another account is replaced")
	}
}

func TestAnImportedWildcardIsFollowedByCertificatesOfTheNames(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), nil)
	bringIn(t, e, -10*day, 80*day, "*.test")
	if issuer := e.issuer(t, "shop.test"); issuer != "Test Intermediate" || ca.Orders() != 0 {
		t.Errorf("shop.test is served by %q, after %d orders", issuer, ca.Orders())
	}
	e.stop()

	e = startEdge(t, s, ca, t.TempDir(), nil)
	bringIn(t, e, -80*day, 10*day, "*.test")
	waitFor(t, 60*time.Second, "certificate of its own for shop.test", func() bool { return strings.HasPrefix(e.issuer(t, "shop.test"), "Pebble") })
	if issuer := e.issuer(t, "unruled.test"); issuer != "Test Intermediate" {
		t.Errorf("a name that is not in the rules is served a certificate of %q", issuer)
	}
}

func TestARevokedCertificateIsRemovedAndTheNextVisitorGetsAnother(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), nil)
	first := leaf(mustShake(t, e, "shop.test", nil))
	names, err := e.certificates.Revoke(t.Context(), "shop.test", 1)
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	if !ca.Revoked(first.SerialNumber) {
		t.Error("the CA knows nothing of it")
	}
	if len(e.certificates.List()) != 0 {
		t.Errorf("stored still: %+v", e.certificates.List())
	}
	if second := leaf(mustShake(t, e, "shop.test", nil)); bytes.Equal(second.Raw, first.Raw) {
		t.Error("the revoked one is served still")
	}
}

func TestACertificateThatTheCADoesNotRevokeIsKept(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), nil)
	bringIn(t, e, -10*day, 80*day, "shop.test")
	if _, err := e.certificates.Revoke(t.Context(), "shop.test", 1); err == nil {
		t.Error("a certificate of another CA was revoked")
	}
	if issuer := e.issuer(t, "shop.test"); issuer != "Test Intermediate" {
		t.Errorf("it is served by %q", issuer)
	}
}

func TestARetryForgetsTheFailureAndWaitsForTheCertificate(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	ca.Break("shop.test", true)
	e := startEdge(t, s, ca, t.TempDir(), nil)
	waitFor(t, 30*time.Second, "attempt, once it runs", func() bool {
		if err := e.certificates.Obtain(t.Context(), "shop.test"); err == nil {
			t.Fatal("a certificate was issued for a broken name")
		}
		_, known := e.certificates.Find("shop.test")
		return known
	})
	if detail, known := e.certificates.Find("shop.test"); !known || detail.Failure == nil || detail.Failure.Failures != 1 {
		t.Errorf("%+v", detail)
	}
	ca.Break("shop.test", false)
	if err := e.certificates.Obtain(t.Context(), "shop.test"); err != nil {
		t.Fatal(err)
	}
	orders := ca.Orders()
	mustShake(t, e, "shop.test", nil)
	if detail, _ := e.certificates.Find("shop.test"); detail.Failure != nil || detail.RenewUntil.IsZero() || len(detail.Held) != 2 || ca.Orders() != orders {
		t.Errorf("%+v after %d orders", detail, ca.Orders())
	}
	if err := e.certificates.Obtain(t.Context(), "stranger.test"); !errors.Is(err, tlsbridge.ErrNotAllowed) {
		t.Errorf("a stranger's name: %v", err)
	}
}

func TestAProfileThatTheCADoesNotHaveStopsIssuingButNotServing(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	dir := t.TempDir()
	with := func(profile string) func(*tlsbridge.CertificateOptions) {
		return func(o *tlsbridge.CertificateOptions) { o.Profile = profile }
	}
	e := startEdge(t, s, ca, dir, with("default"))
	mustShake(t, e, "shop.test", nil)
	if problem := e.certificates.Status().Problem; problem != "" {
		t.Errorf("of a profile that is there: %s", problem)
	}
	e.stop()
	orders := ca.Orders()
	e = startEdge(t, s, ca, dir, with("nonsense"))
	waitFor(t, 30*time.Second, "problem", func() bool { return strings.Contains(e.certificates.Status().Problem, "must be one of default") })
	mustShake(t, e, "shop.test", nil)
	if err := e.certificates.Obtain(t.Context(), "other.test"); !errors.As(err, new(*tlsbridge.ProfileError)) || ca.Orders() != orders {
		t.Errorf("%v, and %d orders more", err, ca.Orders()-orders)
	}
}

func TestAProfileIsNoReasonNotToStartWhileTheCAIsDown(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	ca.Down(true)
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) { o.Profile = "default" })
	bringIn(t, e, -10*day, 80*day, "shop.test")
	mustShake(t, e, "shop.test", nil)
}
