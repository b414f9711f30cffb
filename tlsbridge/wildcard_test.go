package tlsbridge

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// wildcardRig allows the wildcard certificate of shop.test, and shop.test itself.
func wildcardRig(t *testing.T, change func(*CertificateOptions)) *rig {
	t.Helper()
	return newRig(t, func(o *CertificateOptions) {
		o.DNS = &DNSUpdate{Server: "192.0.2.53:53", Key: "key", Secret: "c2VjcmV0"}
		o.Allowed = func(name string) bool { return name == "shop.test" || name == "own.shop.test" }
		o.AllowedWildcard = func(name string) bool { return name == "*.shop.test" }
		if change != nil {
			change(o)
		}
	})
}

func TestAWildcardCertificateThatTheRulesAllowIsOrderedFromTheQueueServedAndRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wildcardRig(t, nil)
		defer func() { r.stop() }()
		batch, err := r.certificates.Prefetch(t.Context(), 0, []string{"*.shop.test", "*.other.test"})
		must(t, err)
		time.Sleep(time.Minute)
		if status, err := r.certificates.Prefetched(t.Context(), batch); err != nil || status.Done != 1 || status.Failed != 1 {
			t.Fatalf("%+v, %v", status, err)
		}
		first := r.mustShake("any.shop.test")
		if !slices.Equal(first.DNSNames, []string{"*.shop.test"}) {
			t.Errorf("a name below it is served %v", first.DNSNames)
		}
		for _, name := range []string{"a.b.shop.test", "any.other.test"} {
			if _, err := r.shake(name, "192.0.2.1"); err == nil {
				t.Errorf("%s is served something", name)
			}
		}
		r.stop()
		time.Sleep(89 * day) // nothing ticks meanwhile
		r.start()
		time.Sleep(time.Hour)
		if second := r.mustShake("any.shop.test"); !slices.Equal(second.DNSNames, []string{"*.shop.test"}) || !second.NotAfter.After(first.NotAfter) {
			t.Errorf("after 89 days it is %v until %v", second.DNSNames, second.NotAfter)
		}
		if orders := len(r.ca.ordered(time.Time{})); orders != 2 {
			t.Errorf("%d orders, want one and its renewal", orders)
		}
	})
}

func TestTheExactCertificateGoesBeforeTheWildcards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wildcardRig(t, nil)
		defer func() { r.stop() }()
		_, err := r.certificates.Prefetch(t.Context(), 0, []string{"own.shop.test"})
		must(t, err)
		time.Sleep(time.Minute)
		_, err = r.certificates.Prefetch(t.Context(), 0, []string{"*.shop.test"})
		must(t, err)
		time.Sleep(time.Minute)
		r.restart()
		if got := r.mustShake("own.shop.test"); !slices.Equal(got.DNSNames, []string{"own.shop.test"}) {
			t.Errorf("served %v", got.DNSNames)
		}
	})
}

func TestNoHandshakeOrdersAWildcardCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wildcardRig(t, nil)
		defer func() { r.stop() }()
		for _, name := range []string{"*.shop.test", "any.shop.test", "*", "*.other.test"} {
			if _, err := r.shake(name, "192.0.2.1"); err == nil {
				t.Errorf("%s is served something", name)
			}
			r.certificates.Prepare(name, netip.Addr{})
		}
		time.Sleep(time.Minute)
		if orders := r.ca.ordered(time.Time{}); len(orders) != 0 {
			t.Errorf("%v", orders)
		}
		must(t, r.certificates.Obtain(t.Context(), "*.shop.test"))
		if _, err := r.shake("*.shop.test", "192.0.2.1"); err == nil {
			t.Error("a name that no host can have is served")
		}
	})
}

func TestWithoutDNS01AWildcardIsNotOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wildcardRig(t, func(o *CertificateOptions) { o.Issuer, o.DNS = IssuerACME, nil })
		defer func() { r.stop() }()
		if r.certificates.ProvesWildcards() {
			t.Error("it is said to be possible")
		}
		if err := r.certificates.Obtain(t.Context(), "*.shop.test"); err == nil || len(r.ca.ordered(time.Time{})) != 0 {
			t.Errorf("%v", err)
		}
	})
}

func TestAWildcardThatHasEndedIsKeptWhereNothingIsIssued(t *testing.T) {
	c := openKeeper(t, func(o *CertificateOptions) { o.AllowedWildcard = func(string) bool { return true } })
	pair := issue(t, newTestCA(t), -80*day, -day, "*.example.com")
	chain, err := parseChain(pair.Chain())
	must(t, err)
	must(t, c.store(t.Context(), &checkedPair{Pair: Pair{pair.Chain(), pair.Key, "certbot"}, leaf: chain[0]}, "*.example.com"))
	c.tend(t.Context())
	if list := c.List(); len(list) != 1 {
		t.Errorf("stored: %+v", list)
	}
}

func TestANameThatIsProvedByTheDNSNeedNotLeadHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wildcardRig(t, func(o *CertificateOptions) {
			o.Preflight = &Preflight{Resolve: func(context.Context, string) ([]netip.Addr, error) { return nil, errDown }}
		})
		defer func() { r.stop() }()
		r.mustShake("shop.test")
		must(t, r.certificates.Obtain(t.Context(), "*.shop.test"))
	})
}

func TestAVisitorIsServedWhatIsStoredWhileAnotherWaitsForAnOrderOfTheSameName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wildcardRig(t, nil)
		defer func() { r.stop() }()
		r.ca.failWith(func(string) error {
			time.Sleep(30 * time.Second)
			return nil
		})
		first := make(chan error, 1)
		go func() {
			_, err := r.shake("own.shop.test", "192.0.2.1")
			first <- err
		}()
		time.Sleep(time.Second)
		pair := issue(t, newTestCA(t), -day, 80*day, "*.shop.test") // another process had it meanwhile
		chain, err := parseChain(pair.Chain())
		must(t, err)
		must(t, r.certificates.store(t.Context(), &checkedPair{Pair: Pair{pair.Chain(), pair.Key, "certbot"}, leaf: chain[0]}, "*.shop.test"))
		r.certificates.findKept()
		before := time.Now()
		if got := r.mustShake("own.shop.test"); !slices.Equal(got.DNSNames, []string{"*.shop.test"}) || time.Since(before) > time.Second {
			t.Errorf("after %v a visitor got one for %v", time.Since(before), got.DNSNames)
		}
		must(t, <-first)
	})
}
