package acme

import (
	"fmt"
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

// nobody answers the CA's challenges where it looks for them.
func nobody(t *testing.T) func(*pebble.Options) {
	t.Helper()
	port := closedPort(t)
	return func(o *pebble.Options) { o.HTTPPort, o.TLSPort = port, port }
}

// closedPort is one where nobody listens.
func closedPort(t *testing.T) int {
	t.Helper()
	closed := listen(t)
	port := portOf(closed)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	return port
}

func TestAnAttemptWhoseValidationFailsIsOneOrder(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, nobody(t))
	e := startEdge(t, s, ca, t.TempDir(), nil)
	for attempt := range int64(3) {
		if _, err := e.shake("shop.test", nil); err == nil {
			t.Fatal("a certificate was issued, and nobody answered the challenges")
		}
		if used := e.certificates.Status().Budget.Orders; ca.Orders() != attempt+1 || int64(used) != ca.Orders() {
			t.Errorf("after %d attempts the CA got %d orders, and %d were taken from the budget", attempt+1, ca.Orders(), used)
		}
		if err := e.certificates.Retry(t.Context(), "shop.test"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestARenewalWhoseValidationFailsIsOneOrder(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, func(o *pebble.Options) { o.Validity = 15 })
	name := fmt.Sprintf("renewed-%d.test", time.Now().UnixNano()) // certmagic remembers for the whole process which names failed
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) {
		o.RenewEvery, o.Allowed = time.Second, func(asked string) bool { return asked == name }
	})
	mustShake(t, e, name, nil)
	ca.Break(name, true)
	before := ca.Orders()
	var waiting []tlsbridge.Attempt
	waitFor(t, 60*time.Second, "a renewal that fails", func() bool {
		waiting = e.certificates.Status().BackedOff
		return len(waiting) > 0
	})
	if made := ca.Orders() - before; made != int64(waiting[0].Failures) {
		t.Errorf("%d orders for %d attempts to renew it", made, waiting[0].Failures)
	}
}

func TestTheNextAttemptTakesTheOtherKindOfChallengeAndOtherNamesTheKindThatWorked(t *testing.T) {
	for name, change := range map[string]func(o *pebble.Options, port int){
		"no HTTP-01":     func(o *pebble.Options, port int) { o.HTTPPort = port },
		"no TLS-ALPN-01": func(o *pebble.Options, port int) { o.TLSPort = port },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSockets(t)
			ca := startPebble(t, s, func(o *pebble.Options) { change(o, closedPort(t)) })
			e := startEdge(t, s, ca, t.TempDir(), nil)
			if _, err := e.shake("shop.test", nil); err != nil { // the first kind is the one that cannot work
				if err := e.certificates.Retry(t.Context(), "shop.test"); err != nil {
					t.Fatal(err)
				}
				mustShake(t, e, "shop.test", nil)
			}
			before := ca.Orders()
			mustShake(t, e, "other.test", nil)
			if before > 2 || ca.Orders() != before+1 {
				t.Errorf("%d orders for the first name, %d for the second", before, ca.Orders()-before)
			}
		})
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
