package tlsbridge

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// withEnded stores a certificate that has ended, as one that a long outage or a long stop leaves behind, beside a CA that takes
// its time.
func withEnded(t *testing.T, r *rig, name string) {
	t.Helper()
	pair := issue(t, newTestCA(t), -80*day, -day, name)
	chain, err := parseChain(pair.Chain())
	must(t, err)
	must(t, r.certificates.store(t.Context(), &checkedPair{Pair: Pair{pair.Chain(), pair.Key, "certbot"}, leaf: chain[0]}, name))
	r.certificates.findKept()
	r.ca.failWith(func(string) error {
		time.Sleep(30 * time.Second)
		return nil
	})
}

func TestAVisitorOfAnEndedCertificateWaitsForNobodyAndTheNextOneGetsANewOne(t *testing.T) {
	for filed, host := range map[string]string{"shop.test": "shop.test", "*.shop.test": "any.shop.test"} {
		t.Run(host, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := wildcardRig(t, nil)
				r.options.Allowed = func(name string) bool { return name == host }
				r.restart()
				defer func() { r.stop() }()
				withEnded(t, r, filed)
				for range 5 {
					before := time.Now()
					if got := r.mustShake(host); time.Now().Before(got.NotAfter) || time.Since(before) > time.Second {
						t.Errorf("after %v a visitor got one until %v", time.Since(before), got.NotAfter)
					}
				}
				time.Sleep(time.Minute)
				if got := r.mustShake(host); time.Now().After(got.NotAfter) || !slices.Equal(got.DNSNames, []string{filed}) {
					t.Errorf("a minute later a visitor got one for %v until %v", got.DNSNames, got.NotAfter)
				}
				if orders := len(r.ca.ordered(time.Time{})); orders != 1 {
					t.Errorf("%d orders", orders)
				}
			})
		})
	}
}

func TestAVisitorBelowAnEndedWildcardThatIsNotRenewedWaitsForNobodyAndTheNextOneGetsOneOfTheHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := wildcardRig(t, func(o *CertificateOptions) { o.AllowedWildcard = nil })
		defer func() { r.stop() }()
		withEnded(t, r, "*.shop.test")
		before := time.Now()
		if got := r.mustShake("own.shop.test"); time.Now().Before(got.NotAfter) || time.Since(before) > time.Second {
			t.Errorf("after %v a visitor got one until %v", time.Since(before), got.NotAfter)
		}
		time.Sleep(time.Minute)
		if got := r.mustShake("own.shop.test"); !slices.Equal(got.DNSNames, []string{"own.shop.test"}) {
			t.Errorf("a minute later a visitor got one for %v", got.DNSNames)
		}
	})
}

func TestAnEndedCertificateIsServedWhileTheCAIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil) // a name of its own: certmagic remembers for the whole process which failed
		defer func() { r.stop() }()
		withEnded(t, r, "ended.test")
		r.ca.failWith(down)
		began := time.Now()
		for range 60 {
			r.mustShake("ended.test")
			time.Sleep(time.Minute)
		}
		if orders := len(r.ca.ordered(began)); orders == 0 || orders > 9 {
			t.Errorf("%d orders within an hour", orders)
		}
	})
}

func TestVisitorsOfAnEndedCertificateOrderNothingWhileTheCALimitsIt(t *testing.T) {
	for filed, host := range map[string]string{"limited.test": "limited.test", "*.shop.test": "any.shop.test"} {
		t.Run(host, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := wildcardRig(t, func(o *CertificateOptions) { o.Allowed = func(name string) bool { return name == host } })
				defer func() { r.stop() }()
				withEnded(t, r, filed)
				r.ca.failWith(func(string) error {
					return acme.Problem{Type: acme.ProblemTypeRateLimited, Status: http.StatusTooManyRequests, Detail: "too many failed authorizations (5)"}
				})
				began := time.Now()
				for range 60 {
					r.mustShake(host)
					time.Sleep(10 * time.Second)
				}
				if orders := len(r.ca.ordered(began)); orders != 1 {
					t.Errorf("%d orders in ten minutes; the CA's limit holds for an hour", orders)
				}
			})
		})
	}
}
