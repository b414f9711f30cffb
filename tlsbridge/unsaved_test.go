package tlsbridge

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
)

// unsaveable has certmagic fail to store what was issued for a name.
func unsaveable(t *testing.T, r *rig, name string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(r.options.Dir, certmagic.StorageKeys.SitePrivateKey("fake", name), "in the way"), 0o755))
}

func TestACertificateThatCannotBeSavedIsNotOrderedAgainForEachVisitor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer func() { r.stop() }()
		unsaveable(t, r, "unsaved.test")
		began := time.Now()
		for time.Since(began) < 30*time.Minute {
			if _, err := r.shake("unsaved.test", "192.0.2.1"); err == nil {
				t.Fatal("it was served")
			}
			time.Sleep(10 * time.Second)
		}
		orders := len(r.ca.ordered(began))
		if orders == 0 || orders > 4 {
			t.Errorf("%d orders in half an hour", orders)
		}
		if used := r.certificates.Status().Budget.Orders; used != orders {
			t.Errorf("%d of %d orders were counted", used, orders)
		}
		if issued := r.eventCount("issued"); issued != 0 {
			t.Errorf("%d are said to be had", issued)
		}
	})
}
