// Package acme tests certificates against a real ACME server, on real sockets.
package acme

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/scripts/e2e/pebble"
	"cutover/tlsbridge"
)

func TestACertificateIsIssuedAtTheFirstHandshake(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), nil)
	state := mustShake(t, e, "shop.test", nil)
	if err := leaf(state).VerifyHostname("shop.test"); err != nil {
		t.Error(err)
	}
	again := mustShake(t, e, "shop.test", nil)
	if leaf(again).SerialNumber.Cmp(leaf(state).SerialNumber) != 0 || ca.Orders() != 1 {
		t.Errorf("the second visitor cost another order: %d orders", ca.Orders())
	}
}

func TestHTTP01AloneSuffices(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) { o.TLSPort = 0 })
	mustShake(t, e, "shop.test", nil)
}

func TestTLSALPN01AloneSuffices(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) { o.HTTPPort = 0 })
	mustShake(t, e, "shop.test", nil)
}

func TestANameThatNoRuleKnowsIsRefusedAtOnceAndNeverOrdered(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), nil)
	began := time.Now()
	_, err := e.shake("stranger.test", nil)
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("got %v, want the alert unrecognized_name", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("refusing took %v", took)
	}
	if ca.Orders() != 0 {
		t.Errorf("%d orders", ca.Orders())
	}
}

func TestCertificatesAreRenewedWithoutTraffic(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, func(o *pebble.Options) { o.Validity = 15 })
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) { o.RenewEvery = time.Second })
	mustShake(t, e, "shop.test", nil)
	waitFor(t, 60*time.Second, "a renewal", func() bool { return ca.Orders() >= 2 })
}

func TestAFailingNameIsHeldBack(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	ca.Break("shop.test", true)
	attempts := &memory{list: map[string]tlsbridge.Attempt{}}
	dir := t.TempDir()
	keep := func(o *tlsbridge.CertificateOptions) { o.Attempts = attempts }
	e := startEdge(t, s, ca, dir, keep)
	for range 5 {
		if _, err := e.shake("shop.test", nil); err == nil {
			t.Fatal("a certificate was issued for a broken name")
		}
	}
	first := ca.Orders()
	if first != 1 {
		t.Errorf("5 handshakes for a failing name made %d orders, want one", first)
	}
	e.stop()
	ca.Break("shop.test", false)
	e = startEdge(t, s, ca, dir, keep)
	if _, err := e.shake("shop.test", nil); err == nil || ca.Orders() != first {
		t.Errorf("after a restart the name was tried again at once: %v, %d orders", err, ca.Orders())
	}
	if waiting := e.certificates.Status().BackedOff; len(waiting) != 1 || waiting[0].Name != "shop.test" {
		t.Errorf("status says %+v", waiting)
	}
	if err := e.certificates.Retry(t.Context(), "shop.test"); err != nil {
		t.Fatal(err)
	}
	mustShake(t, e, "shop.test", nil)
}

func TestStoredCertificatesAreServedWhileTheCAIsDownAfterARestart(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	dir := t.TempDir()
	e := startEdge(t, s, ca, dir, nil)
	issued := leaf(mustShake(t, e, "shop.test", nil))
	e.stop()
	ca.Down(true)
	e = startEdge(t, s, ca, dir, nil)
	if served := leaf(mustShake(t, e, "shop.test", nil)); served.SerialNumber.Cmp(issued.SerialNumber) != 0 {
		t.Error("another certificate was served")
	}
}

func TestAStoredCertificateIsServedEvenWhenTheRulesNoLongerKnowItsName(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	dir := t.TempDir()
	e := startEdge(t, s, ca, dir, nil)
	mustShake(t, e, "shop.test", nil)
	e.mu.Lock()
	e.allowed = nil
	e.mu.Unlock()
	mustShake(t, e, "shop.test", nil)
	e.stop()
	e = startEdge(t, s, ca, dir, func(o *tlsbridge.CertificateOptions) { o.Allowed = func(string) bool { return false } })
	mustShake(t, e, "shop.test", nil)
	if ca.Orders() != 1 {
		t.Errorf("%d orders", ca.Orders())
	}
}

func TestNoPortIsOpenedThroughAWholeIssuance(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), nil)
	before := listening(t)
	if len(before) < 2 {
		t.Fatalf("our own sockets are not seen: %v", before)
	}
	seen, stop, done := map[string]bool{}, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			for socket := range listening(t) {
				seen[socket] = true
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	mustShake(t, e, "shop.test", nil)
	close(stop)
	<-done
	for socket := range seen {
		if !before[socket] {
			t.Errorf("socket %s was opened", socket)
		}
	}
}

func TestSessionsAreResumedAfterARestart(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	dir := t.TempDir()
	e := startEdge(t, s, ca, dir, nil)
	sessions := tls.NewLRUClientSessionCache(4)
	withSessions := func(c *tls.Config) { c.ClientSessionCache = sessions }
	mustShake(t, e, "shop.test", withSessions)
	e.stop()
	e = startEdge(t, s, ca, dir, nil)
	if state := mustShake(t, e, "shop.test", withSessions); !state.DidResume {
		t.Error("a full handshake was needed")
	}
}

func TestHandshakesUseModernCryptographyAlone(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nil)
	e := startEdge(t, s, ca, t.TempDir(), nil)
	if state := mustShake(t, e, "shop.test", nil); state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("the curve is %v", state.CurveID)
	}
	legacy := func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
	}
	if _, err := e.shake("shop.test", legacy); err == nil {
		t.Error("a CBC suite was accepted")
	}
	if _, err := e.shake("shop.test", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	aead := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
	if state := mustShake(t, e, "shop.test", aead); state.Version != tls.VersionTLS12 {
		t.Errorf("version %x", state.Version)
	}
}

// listening returns the inodes of the TCP sockets that this process listens on.
func listening(t *testing.T) map[string]bool {
	own := map[string]bool{}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Error(err)
	}
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join("/proc/self/fd", entry.Name())); err == nil {
			own[target] = true
		}
	}
	found := map[string]bool{}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) > 9 && fields[3] == "0A" && own[fmt.Sprintf("socket:[%s]", fields[9])] {
				found[fields[9]] = true
			}
		}
	}
	return found
}

func waitFor(t *testing.T, atMost time.Duration, what string, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(atMost)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("no %s within %v", what, atMost)
		}
	}
}
