package tlsbridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

func wantUnrecognized(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("got %v, want the alert unrecognized_name", err)
	}
}

func TestWithoutRoomInTheBudgetANewNameIsRefusedAndWhatIsStoredIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{Orders: 2} })
		defer func() { r.stop() }()
		r.mustShake("a.one.test")
		r.mustShake("b.two.test")
		for range 3 {
			_, err := r.shake("c.three.test", "192.0.2.1")
			wantUnrecognized(t, err)
		}
		r.restart()
		_, err := r.shake("c.three.test", "192.0.2.1")
		wantUnrecognized(t, err)
		r.mustShake("a.one.test")
		status := r.certificates.Status().Budget
		if status.Orders != 2 || status.Limit != 2 || len(status.Holds) != 1 || !strings.Contains(status.Holds[0].Reason, "2 orders of the account within 3h are used up") {
			t.Errorf("%+v", status)
		}
		if r.eventCount("budget") != 4 || len(r.ca.ordered(time.Time{})) != 2 {
			t.Errorf("events %v, %d orders", r.events, len(r.ca.ordered(time.Time{})))
		}
		time.Sleep(3 * time.Hour)
		r.mustShake("c.three.test")
	})
}

func TestTheBudgetOfADomainHoldsBackNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{PerDomain: 2, PerClient: 99} })
		defer func() { r.stop() }()
		r.mustShake("a.shop.co.uk")
		r.mustShake("b.shop.co.uk")
		_, err := r.shake("c.shop.co.uk", "192.0.2.1")
		wantUnrecognized(t, err)
		r.mustShake("c.other.co.uk")
	})
}

func TestNamesThatNoRowNamesHaveABudgetOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) {
			o.Limits = Limits{AnyPerDomain: 1}
			o.Any = func(name string) bool { return name != "www.shop.test" }
		})
		defer func() { r.stop() }()
		r.mustShake("a.shop.test")
		_, err := r.shake("b.shop.test", "192.0.2.1")
		wantUnrecognized(t, err)
		r.mustShake("www.shop.test")
	})
}

func TestOneClientMayAskForSoManyNewNamesAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{PerClient: 2} })
		defer func() { r.stop() }()
		for _, name := range []string{"a.test", "b.test"} {
			if _, err := r.shake(name, "2001:db8::1"); err != nil {
				t.Fatal(err)
			}
		}
		_, err := r.shake("c.test", "2001:db8::2")
		wantUnrecognized(t, err)
		if _, err := r.shake("a.test", "2001:db8::3"); err != nil {
			t.Errorf("a stored certificate was not served: %v", err)
		}
		if _, err := r.shake("c.test", "192.0.2.7"); err != nil {
			t.Errorf("another client: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := r.shake("d.test", "2001:db8::2"); err != nil {
			t.Errorf("a minute later: %v", err)
		}
		if r.eventCount("client") != 1 {
			t.Errorf("events %v", r.events)
		}
	})
}

func TestWhoSpeaksForManyMayAskForAnyNumberOfNewNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		balancer := netip.MustParseAddr("192.0.2.1")
		r := newRig(t, func(o *CertificateOptions) {
			o.Limits = Limits{PerClient: 1}
			o.Exempt = func(client netip.Addr) bool { return client == balancer }
		})
		defer func() { r.stop() }()
		for _, name := range []string{"a.test", "b.test", "c.test"} {
			if _, err := r.shake(name, balancer.String()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := r.eventCount("client"); n != 0 {
			t.Errorf("%d names were too many", n)
		}
	})
}

func TestWhoAsksInClearTextMayAskForNoMoreNewNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{PerClient: 2} })
		defer func() { r.stop() }()
		stranger := netip.MustParseAddr("2001:db8::1")
		for _, name := range []string{"a.test", "b.test", "a.test", "c.test"} {
			r.certificates.Prepare(name, stranger)
			synctest.Wait()
		}
		_, err := r.shake("d.test", "2001:db8::2") // the same network
		wantUnrecognized(t, err)
		r.certificates.Prepare("e.test", netip.MustParseAddr("2001:db8:0:1::1"))
		time.Sleep(time.Minute)
		for name, want := range map[string]bool{"a.test": true, "b.test": true, "c.test": false, "d.test": false, "e.test": true} {
			if got := r.certificates.Ready(name); got != want {
				t.Errorf("%s has a certificate: %v", name, got)
			}
		}
		if n := r.eventCount("client"); n != 2 {
			t.Errorf("%d names were too many", n)
		}
	})
}

func TestTheMemoryOfClientsIsBounded(t *testing.T) {
	n := &newNames{limit: 5}
	for i := range 5 * maxClients {
		client := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		n.allow(client, "a.test")
	}
	if known := len(n.young) + len(n.old); known > 2*maxClients {
		t.Errorf("%d clients are known", known)
	}
}

func limitedBy(detail string) func(string) error {
	return func(string) error {
		return fmt.Errorf("creating new order: %w", acme.Problem{Type: acme.ProblemTypeRateLimited, Status: 429, Detail: detail})
	}
}

func TestARateLimitOfTheCAPausesNewOrdersUntilTheTimeThatItNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer func() { r.stop() }()
		until := time.Now().Add(90 * time.Minute).UTC()
		r.ca.failWith(limitedBy("too many new orders (300) from this account in the last 3h0m0s, retry after " + until.Format("2006-01-02 15:04:05 MST") + ": see https://letsencrypt.org/docs/rate-limits/"))
		if _, err := r.shake("a.test", "192.0.2.1"); err == nil {
			t.Fatal("a certificate was issued")
		}
		r.ca.failWith(nil)
		r.restart() // another process keeps to it, too
		_, err := r.shake("b.test", "192.0.2.1")
		wantUnrecognized(t, err)
		if len(r.ca.ordered(time.Time{})) != 1 {
			t.Errorf("%d orders", len(r.ca.ordered(time.Time{})))
		}
		time.Sleep(90 * time.Minute)
		r.mustShake("a.test")
		r.mustShake("b.test")
	})
}

func TestRateLimitsAreReadAsLetsEncryptWritesThem(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	named := time.Date(2026, 11, 23, 1, 2, 3, 0, time.UTC)
	b := newBudget(CertificateOptions{}, "ca")
	for detail, want := range map[string]BudgetHold{
		"too many new orders (300) from this account in the last 3h0m0s, retry after 2026-11-23 01:02:03 UTC: see https://…":                          {Key: "account ca", Until: named},
		`too many certificates (50) already issued for "shop.test" in the last 168h0m0s, retry after 2026-11-23 01:02:03 UTC: see`:                    {Key: "domain shop.test ca", Until: named},
		"too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after 2026-11-23 01:02:03 UTC":        {Key: "name www.shop.test ca", Until: named},
		`too many failed authorizations (5) for "www.shop.test" in the last 1h0m0s, retry after 2026-11-23 01:02:03 UTC: see`:                         {Key: "name www.shop.test ca", Until: named},
		"Your account is temporarily prevented from requesting certificates for www.shop.test and possibly others. Please visit: https://portal.test": {Key: "name www.shop.test ca", Until: now.Add(time.Hour)},
		"slow down":                             {Key: "account ca", Until: now.Add(time.Hour)},
		"retry after 2026-11-21 11:00:00 UTC":   {Key: "account ca", Until: now.Add(time.Minute)},
		"retry after 2036-11-21 11:00:00 UTC":   {Key: "account ca", Until: now.Add(8 * 24 * time.Hour)},
		"retry after tomorrow, or on some day.": {Key: "account ca", Until: now.Add(time.Hour)},
		"retry after ":                          {Key: "account ca", Until: now.Add(time.Hour)},
	} {
		if key, until := b.limitedKey("www.shop.test", detail), limitedUntil(detail, now); key != want.Key || !until.Equal(want.Until) {
			t.Errorf("%s\n%s until %s, want %s until %s", detail, key, until, want.Key, want.Until)
		}
	}
}

func TestABudgetThatCannotBeKeptOnDiskCountsInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &brittle{memoryBudget: newMemoryBudget()}
		r := newRig(t, func(o *CertificateOptions) { o.Budget, o.Limits = store, Limits{Orders: 3} })
		defer func() { r.stop() }()
		r.mustShake("a.test")
		r.mustShake("b.test")
		store.broken = true
		r.mustShake("c.test")
		_, err := r.shake("d.test", "192.0.2.1")
		wantUnrecognized(t, err)
	})
}

// brittle is a store that may break.
type brittle struct {
	*memoryBudget
	broken bool
}

func (b *brittle) Spend(ctx context.Context, at time.Time, uses []BudgetUse) (BudgetHold, bool, error) {
	if b.broken {
		return BudgetHold{}, false, errors.New("disk I/O error")
	}
	return b.memoryBudget.Spend(ctx, at, uses)
}

func TestANameThatDoesNotLeadHereCostsNoOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leads := map[string]string{"here.test": "192.0.2.10", "away.test": "198.51.100.1"}
		r := newRig(t, func(o *CertificateOptions) {
			o.Preflight = &Preflight{
				Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")},
				Resolve: func(_ context.Context, name string) ([]netip.Addr, error) {
					if leads[name] == "" {
						return nil, errors.New("no such host")
					}
					return []netip.Addr{netip.MustParseAddr(leads[name])}, nil
				},
			}
		})
		defer func() { r.stop() }()
		for _, name := range []string{"away.test", "none.test"} {
			if _, err := r.shake(name, "192.0.2.1"); err == nil {
				t.Errorf("%s: a certificate was issued", name)
			}
		}
		r.mustShake("here.test")
		if orders := r.ca.ordered(time.Time{}); len(orders) != 1 || r.certificates.Status().Budget.Orders != 1 {
			t.Errorf("orders %v", orders)
		}
		waiting := r.certificates.Status().BackedOff
		if len(waiting) != 2 || !strings.Contains(waiting[0].Error, "away.test leads to [198.51.100.1], and that is none of our addresses") {
			t.Errorf("%+v", waiting)
		}
	})
}

func TestTheMachinesOwnAddressesAreFoundWithoutAList(t *testing.T) {
	for text, want := range map[string]bool{"127.0.0.1": true, "192.0.2.1": false, "0.0.0.0": false, "::": false, "224.0.0.1": false} {
		if got := isLocal(t.Context(), netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range addresses {
		network, ok := each.(*net.IPNet)
		if !ok || network.IP.IsLinkLocalUnicast() { // those need to know their interface, and no name leads to them
			continue
		}
		address, _ := netip.AddrFromSlice(network.IP)
		if !isLocal(t.Context(), address.Unmap()) {
			t.Errorf("%s is not taken for ours", address)
		}
	}
}
