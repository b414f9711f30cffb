package tlsbridge

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// bringIn imports a certificate that is due, for several names.
func (r *rig) bringIn(names ...string) {
	r.t.Helper()
	imported(r.t, r.certificates, issue(r.t, newTestCA(r.t), -80*day, 10*day, names...))
}

func TestImportedCertificatesOfSeveralNamesAreRenewedOnceForEachWithinAnHourOfTheCAsReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer func() { r.stop() }()
		r.ca.failWith(down)
		began := time.Now()
		var names []string
		for i := range 30 {
			names = append(names, fmt.Sprintf("shop-%d.test", i))
		}
		r.bringIn(names...)
		time.Sleep(3 * time.Hour)
		if orders := len(r.ca.ordered(began)); orders > 3*60/8+4 {
			t.Errorf("%d orders in three hours while the CA is down", orders)
		}
		if late := r.certificates.Status().Late; late != len(names) {
			t.Errorf("%d renewals are said to be due, want %d", late, len(names))
		}
		returned := time.Now()
		r.ca.failWith(nil)
		time.Sleep(time.Hour)
		wantRenewed(t, r, names, returned)
		if orders := len(r.ca.ordered(returned)); orders != len(names) {
			t.Errorf("%d orders for %d names", orders, len(names))
		}
	})
}

func TestTheRenewalOfAnImportedCertificateOfSeveralNamesIsCountedAndGoesAheadOfNewNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *CertificateOptions) { o.Limits = Limits{Orders: 2} })
		defer func() { r.stop() }()
		r.mustShake("new-1.test")
		r.mustShake("new-2.test") // the budget is used up
		began := time.Now()
		r.bringIn("www.test", "shop.test")
		time.Sleep(time.Hour)
		wantRenewed(t, r, []string{"shop.test", "www.test"}, began)
		if used := r.certificates.Status().Budget.Orders; used != 4 {
			t.Errorf("%d orders were counted, want 4", used)
		}
		time.Sleep(2*time.Hour + time.Minute) // the first two are three hours old, the others are not
		if _, err := r.shake("new-3.test", "192.0.2.1"); err == nil {
			t.Error("a new name was ordered though renewals have used the budget up")
		}
	})
}

func TestTheRenewalOfAnImportedCertificateOfOneNameTakesNothingFromTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer func() { r.stop() }()
		began := time.Now()
		r.bringIn("shop.test")
		time.Sleep(time.Hour)
		wantRenewed(t, r, []string{"shop.test"}, began)
		if used := r.certificates.Status().Budget.Orders; used != 0 {
			t.Errorf("%d orders were counted", used)
		}
	})
}

func TestAWildcardThatHasEndedIsKeptWhereItCanBeRenewed(t *testing.T) {
	c := openKeeper(t, func(o *CertificateOptions) {
		o.Issuer, o.DNS = IssuerLocal, &DNSUpdate{Server: "192.0.2.53:53", Key: "key", Secret: "c2VjcmV0"}
		o.AllowedWildcard = func(name string) bool { return name == "*.example.com" }
	})
	pair := issue(t, newTestCA(t), -80*day, -day, "*.example.com")
	chain, err := parseChain(pair.Chain())
	must(t, err)
	must(t, c.store(t.Context(), &checkedPair{Pair: Pair{pair.Chain(), pair.Key, "certbot"}, leaf: chain[0]}, "*.example.com"))
	c.tend(t.Context())
	if list := c.List(); len(list) != 1 {
		t.Errorf("stored: %+v", list)
	}
}
