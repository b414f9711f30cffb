package tlsbridge

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
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

// fullAttempts can be read but not written, as a database on a full disk.
type fullAttempts struct{ keptAttempts }

func (f *fullAttempts) SaveAttempt(context.Context, Attempt) error {
	return errors.New("database or disk is full")
}

func TestTheBackOffGrowsThoughItsDatabaseCannotBeWritten(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, *rig){
		"refused.test": func(_ *testing.T, r *rig) {
			r.ca.failWith(func(string) error {
				return acme.Problem{Type: acme.ProblemTypeUnauthorized, Status: http.StatusForbidden}
			})
		},
		"unsaved-too.test": func(t *testing.T, r *rig) { unsaveable(t, r, "unsaved-too.test") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(o *CertificateOptions) {
					o.Attempts, o.Limits = &fullAttempts{}, Limits{PerName: 1000, PerDomain: 1000}
				})
				defer func() { r.stop() }()
				prepare(t, r)
				began := time.Now()
				for time.Since(began) < time.Hour {
					_, _ = r.shake(name, "192.0.2.1") // gets none
					time.Sleep(10 * time.Second)
				}
				if orders := len(r.ca.ordered(began)); orders < 2 || orders > 8 {
					t.Errorf("%d orders in an hour", orders)
				}
				must(t, r.certificates.Retry(t.Context(), name))
				retried := time.Now()
				_, _ = r.shake(name, "192.0.2.1")
				if len(r.ca.ordered(retried)) == 0 {
					t.Error("a retry did not have it tried at once")
				}
			})
		})
	}
}
