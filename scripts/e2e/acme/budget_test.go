package acme

import (
	"testing"
	"time"

	"cutover/scripts/e2e/pebble"
	"cutover/tlsbridge"
)

func TestARenewalSaysWhichCertificateItReplacesAndTakesNothingFromTheBudget(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, func(o *pebble.Options) { o.Validity = 15 })
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) {
		o.RenewEvery = time.Second
		o.Limits = tlsbridge.Limits{Orders: 1}
	})
	mustShake(t, e, "renewed.test", nil) // certmagic holds back, by name and for all of this process, what another test broke off
	waitFor(t, 60*time.Second, "a second renewal", func() bool { return ca.Orders() >= 3 })
	if stats := ca.Stats(); stats.Replaces < stats.Orders-1 {
		t.Errorf("%d of %d renewals say what they replace", stats.Replaces, stats.Orders-1)
	}
	if used := e.certificates.Status().Budget.Orders; used != 1 {
		t.Errorf("%d orders were taken from the budget", used)
	}
	if _, err := e.shake("other.test", nil); err == nil {
		t.Error("a new name was ordered beyond the budget")
	}
}

// nobody answers the CA's challenges where it looks for them: an attempt orders once for each kind.
func nobody(t *testing.T) func(*pebble.Options) {
	t.Helper()
	closed := listen(t)
	port := portOf(closed)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	return func(o *pebble.Options) { o.HTTPPort, o.TLSPort = port, port }
}

func TestTheSecondOrderOfAnAttemptCountsToo(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nobody(t))
	e := startEdge(t, s, ca, t.TempDir(), nil)
	if _, err := e.shake("shop.test", nil); err == nil {
		t.Fatal("a certificate was issued, and nobody answered the challenges")
	}
	if used := e.certificates.Status().Budget.Orders; ca.Orders() < 2 || int64(used) != ca.Orders() {
		t.Errorf("the CA got %d orders, and %d were taken from the budget", ca.Orders(), used)
	}
}

func TestASecondOrderIsNotMadeWithoutABudgetForIt(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nobody(t))
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) { o.Limits = tlsbridge.Limits{Orders: 1} })
	if _, err := e.shake("shop.test", nil); err == nil || ca.Orders() != 1 {
		t.Errorf("got %v after %d orders", err, ca.Orders())
	}
}

func TestACAThatLimitsIsLeftAloneUntilTheTimeThatItNames(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, func(o *pebble.Options) { o.Orders, o.OrdersWindow = 1, time.Hour })
	e := startEdge(t, s, ca, t.TempDir(), nil)
	mustShake(t, e, "shop.test", nil)
	for range 3 {
		if _, err := e.shake("other.test", nil); err == nil {
			t.Fatal("a certificate was issued beyond the CA's limit")
		}
	}
	if stats := ca.Stats(); stats.Refused != 1 {
		t.Errorf("the CA had to refuse %d orders", stats.Refused)
	}
	holds := e.certificates.Status().Budget.Holds
	if len(holds) != 1 || time.Until(holds[0].Until) < 58*time.Minute || time.Until(holds[0].Until) > time.Hour {
		t.Errorf("held: %+v", holds)
	}
}
