package tlsbridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

const day = 24 * time.Hour

// TestThirtyDaysWithoutACA is the edge's promise: what is stored is served for as long as it is valid, and within an hour of
// the CA's return everything is renewed, with the budget kept. The time is not real; certmagic, its files and its locks are.
// Its attributes are the figures that scripts/bench/edge.sh prints.
func TestThirtyDaysWithoutACA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{Orders: 20, OrdersWindow: 3 * time.Hour, PerClient: 1000}
		r := newRig(t, func(o *CertificateOptions) { o.Limits, o.RenewEvery = limits, 30*time.Minute })
		defer func() { r.stop() }()
		stored := obtainOverDays(r, 8, 10)
		time.Sleep(45 * day) // the first fall due five days into the outage
		began := time.Now()
		r.ca.failWith(down)
		const restarts = 6
		visits := 0
		for range restarts {
			r.restart()
			visits += liveThrough(t, r, stored, 30*day/restarts)
		}
		returned := time.Now()
		if due := r.certificates.Status().Late; due != len(stored) {
			t.Errorf("%d renewals are due at the CA's return, want all %d", due, len(stored))
		}
		attempts := len(r.ca.ordered(began))
		if attempts > 30*24*60/8 {
			t.Errorf("%d attempts in 30 days: more than one in eight minutes", attempts)
		}
		r.ca.failWith(nil)
		time.Sleep(30 * time.Minute)
		visitNewNames(r, 2*limits.Orders) // beside the renewals
		last := wantRenewed(t, r, stored, returned)
		most := wantWithin(t, limits, ordersOfNewNames(r, stored))
		tell(t, map[string]any{
			"certificates": len(stored), "restarts": restarts, "visits": visits, "attempts": attempts,
			"renewed-after": last.Round(time.Second), "orders": most, "orders-limit": limits.Orders,
		})
	})
}

// tell states figures for programs.
func tell(t *testing.T, figures map[string]any) {
	t.Helper()
	for name, value := range figures {
		t.Attr(name, fmt.Sprint(value))
	}
}

// obtainOverDays gets certificates, spread over some days.
func obtainOverDays(r *rig, count, days int) (names []string) {
	for i := range count {
		name := fmt.Sprintf("shop-%d-%d.test", r.ca.life/time.Hour, i)
		r.mustShake(name)
		names = append(names, name)
		time.Sleep(time.Duration(days) * day / time.Duration(count))
	}
	return names
}

// liveThrough has visitors come every day, and strangers to each of them who ask for names that have no certificate yet. It
// returns how often a stored certificate was served.
func liveThrough(t *testing.T, r *rig, stored []string, span time.Duration) (visits int) {
	t.Helper()
	const every = 4 * time.Hour
	for turn := range int(span / every) {
		if _, err := r.shake(fmt.Sprintf("new-%d.test", turn%3), "192.0.2.9"); err == nil {
			t.Error("a certificate was issued during the outage")
		}
		if turn%int(day/every) == 0 {
			for _, name := range stored {
				if certificate := r.mustShake(name); time.Now().After(certificate.NotAfter) {
					t.Fatalf("%s: the certificate has expired", name)
				}
				visits++
			}
		}
		time.Sleep(every)
	}
	return visits
}

// visitNewNames has one visitor for each of so many names without a certificate, in half an hour.
func visitNewNames(r *rig, names int) {
	for i := range names {
		_, _ = r.shake(fmt.Sprintf("late-%d.test", i), "192.0.2.9") // some get none: the budget is for fewer
		time.Sleep(30 * time.Minute / time.Duration(names))
	}
}

// wantRenewed returns how long after that time the last was renewed.
func wantRenewed(t *testing.T, r *rig, names []string, since time.Time) (last time.Duration) {
	t.Helper()
	for _, name := range names {
		certificate := r.mustShake(name)
		if certificate.NotBefore.Before(since.Truncate(time.Second)) {
			t.Errorf("%s was not renewed within an hour", name)
		}
		last = max(last, certificate.NotBefore.Sub(since))
	}
	if late := r.certificates.Status().Late; late != 0 {
		t.Errorf("%d renewals are said to be due", late)
	}
	t.Logf("%d renewals, the last %v after the CA's return", len(names), last.Round(time.Second))
	return last
}

// ordersOfNewNames lists the orders that were for names without a certificate.
func ordersOfNewNames(r *rig, stored []string) (orders []order) {
	seen := map[string]bool{}
	for _, o := range r.ca.ordered(time.Time{}) {
		first := !seen[o.name]
		seen[o.name] = true
		if first || !slices.Contains(stored, o.name) {
			orders = append(orders, o)
		}
	}
	return orders
}

// wantWithin fails if there are more orders in any window than may be, and returns the most.
func wantWithin(t *testing.T, l Limits, orders []order) (most int) {
	t.Helper()
	first := 0
	for i, o := range orders {
		for o.at.Sub(orders[first].at) >= l.OrdersWindow {
			first++
		}
		most = max(most, i-first+1)
	}
	if most > l.Orders {
		t.Errorf("%d orders within %v, want at most %d", most, l.OrdersWindow, l.Orders)
	}
	return most
}

func TestHundredsOfRenewalsAreDoneWithinAnHourOfTheCAsReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{Orders: 1000, PerDomain: 1000, PerClient: 1000} })
		defer func() { r.stop() }()
		r.ca.life = 9 * day
		stored := obtainOverDays(r, 100, 1)
		time.Sleep(3 * day) // at half of so short a life they fall due
		r.ca.failWith(down)
		time.Sleep(50 * time.Hour)
		returned := time.Now()
		r.ca.failWith(nil)
		time.Sleep(time.Hour)
		wantRenewed(t, r, stored, returned)
	})
}

func TestARenewalThatTheCARefusesWaitsAsANewNameWould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer func() { r.stop() }()
		r.ca.life = 88 * day
		r.mustShake("moved.test")
		time.Sleep(58 * day)
		r.ca.failWith(func(string) error {
			return fmt.Errorf("solving challenge: %w", acme.Problem{Type: acme.ProblemTypeUnauthorized, Status: http.StatusForbidden})
		})
		began := time.Now()
		time.Sleep(7 * day)
		if orders := len(r.ca.ordered(began)); orders < 5 || orders > 12 {
			t.Errorf("%d orders in the days in which it was due, want about four on the first and one a day", orders)
		}
		r.ca.failWith(nil)
		if err := r.certificates.Retry(t.Context(), "moved.test"); err != nil {
			t.Fatal(err)
		}
		retried := time.Now()
		time.Sleep(15 * time.Minute) // tried within one, and served when certmagic looks next
		if r.mustShake("moved.test").NotBefore.Before(retried.Truncate(time.Second)) {
			t.Error("a retry did not renew it")
		}
	})
}

func TestACAThatIsDownIsAskedByOneOrderAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{PerClient: 10_000} })
		defer func() { r.stop() }()
		r.ca.failWith(down)
		for i := range 600 {
			_, _ = r.shake(fmt.Sprintf("host-%d.test", i), "192.0.2.1")
			time.Sleep(time.Second)
		}
		if orders := len(r.ca.ordered(time.Time{})); orders < 4 || orders > 8 {
			t.Errorf("600 names in 10 minutes made %d orders", orders)
		}
		if r.certificates.Status().Outage == "" {
			t.Error("the status does not say that the CA is down")
		}
		r.ca.failWith(nil)
		time.Sleep(12 * time.Minute)
		r.mustShake("host-599.test")
		if said := r.certificates.Status().Outage; said != "" {
			t.Errorf("the status says %s", said)
		}
	})
}

func TestAnOutageIsToldFromARefusal(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errDown, true},
		{fmt.Errorf("finalizing order: %w", context.DeadlineExceeded), true},
		{acme.Problem{Type: acme.ProblemTypeServerInternal, Status: 500}, true},
		{acme.Problem{Type: acme.ProblemTypeRateLimited, Status: 503, Detail: "Service busy; retry later."}, true},
		{acme.Problem{Type: acme.ProblemTypeUnauthorized, Status: 403}, false},
		{fmt.Errorf("creating new order: %w", acme.Problem{Type: acme.ProblemTypeRejectedIdentifier, Status: 400}), false},
		{&budgetError{}, false},
		{fmt.Errorf("presenting for challenge: %w", &proofError{errDown}), false},
		{errors.New("anything else"), true},
	} {
		if got := isOutage(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
