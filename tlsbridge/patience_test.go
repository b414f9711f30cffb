package tlsbridge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

// second is another process on the same storage and stores.
func (r *rig) second() *rig {
	other := &rig{t: r.t, ca: r.ca, options: r.options, events: map[string]int{}}
	other.options.OnEvent = other.count
	other.start()
	return other
}

func TestWhatAnotherProcessHasStoredIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.ca.life = 12 * day
		defer func() { r.stop() }()
		old := r.second()
		synctest.Wait()
		old.certificates.Prepare("stored-by-another.test", netip.Addr{})
		time.Sleep(2 * time.Minute)
		old.stop()
		if !r.certificates.Ready("stored-by-another.test") {
			t.Fatal("not ready")
		}
		time.Sleep(11 * day)
		if orders := len(r.ca.ordered(time.Time{})); orders != 2 {
			t.Errorf("%d orders in 11 of 12 days, want the first and a renewal", orders)
		}
	})
}

func TestAPairWhoseRenewalWasKilledHalfWayIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.ca.life = 12 * day
		defer func() { r.stop() }()
		r.mustShake("shop.test")
		r.mustShake("other.test")
		r.stop()
		site := func(name string) string {
			return filepath.Join(r.options.Dir, certmagic.StorageKeys.SitePrivateKey("fake", name))
		}
		key, err := os.ReadFile(site("other.test"))
		must(t, err)
		must(t, os.WriteFile(site("shop.test"), key, 0o600))
		time.Sleep(9 * day) // it is due: a renewal was killed after its key was stored
		r.start()
		time.Sleep(2 * time.Hour)
		if _, err := r.shake("shop.test", "192.0.2.1"); err != nil {
			t.Errorf("two hours after the start: %v", err)
		}
	})
}

func TestAClientBelowAWildcardThatIsDueAsksForNoMoreNamesThanOthers(t *testing.T) {
	for name, days := range map[string]time.Duration{"due": 10 * day, "ended": -day} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(o *CertificateOptions) { o.Allowed = func(name string) bool { return name[0] != '*' } })
				defer func() { r.stop() }()
				pair := issue(t, newTestCA(t), -80*day, days, "*.example.test")
				chain, err := parseChain(pair.Chain())
				must(t, err)
				must(t, r.certificates.store(t.Context(), &checkedPair{Pair: Pair{pair.Chain(), pair.Key, "certbot"}, leaf: chain[0]}, "*.example.test"))
				r.certificates.findKept()
				for i := range 15 {
					_, _ = r.shake(fmt.Sprintf("n%d.example.test", i), "192.0.2.1")
				}
				synctest.Wait()
				if orders := len(r.ca.ordered(time.Time{})); orders > 5 {
					t.Errorf("%d orders by one client within a minute", orders)
				}
			})
		})
	}
}

// What certmagic refuses before it asks a public CA never reaches the gate.
func TestNamesThatNoPublicCATakesDoNotHoldUpTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := &keptQueue{names: map[string]queued{}}
		c, err := NewCertificates(CertificateOptions{
			Dir: t.TempDir(), Queue: queue, HTTPPort: 80, TLSPort: 443, Allowed: func(string) bool { return true },
		})
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		_, err = c.Prefetch(t.Context(), 0, []string{"a.internal", "b.local", "c.home.arpa", "d.internal"})
		must(t, err)
		time.Sleep(6 * time.Hour)
		if c.Status().InFlight != 0 {
			t.Errorf("%d slots are held after 6 hours", c.Status().InFlight)
		}
		cancel()
		must(t, <-ended)
		time.Sleep(lockfileLook)
		synctest.Wait()
	})
}

func TestARenewalThatFailsForItsOwnNameIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{Orders: 1000} })
		r.ca.life = 12 * day
		defer func() { r.stop() }()
		r.mustShake("moved.test")
		r.ca.failWith(func(name string) error {
			if name == "moved.test" {
				return errors.New("solving challenges: presenting for challenge: update moved.test.: 192.0.2.53:53 refuses it: REFUSED")
			}
			return nil
		})
		time.Sleep(8*day + 2*time.Hour)
		refused := 0
		for i := range 60 {
			if _, err := r.shake(fmt.Sprintf("new.shop-%d.test", i), "192.0.2.1"); err != nil {
				refused++
			}
			time.Sleep(7 * time.Minute)
		}
		if refused > 0 {
			t.Errorf("%d of 60 visitors of other new hosts were refused", refused)
		}
	})
}
