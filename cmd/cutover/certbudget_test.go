package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"cutover/rules/store"
	"cutover/rules/store/observed"
	"cutover/tlsbridge"
)

func TestAFailedNameIsTriedAgainWhenItsRulesAreEditedAndNotWhenOthersAre(t *testing.T) {
	dir := t.TempDir()
	db, err := observed.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"edited.test", "other.test", "a.below.test", "deep.below.below.test"} {
		failed := observed.Attempt{Name: name, Failures: 3, At: time.Now(), Next: time.Now().Add(time.Hour), Error: "dns"}
		if err := db.SaveAttempt(t.Context(), failed); err != nil {
			t.Fatal(err)
		}
	}
	d := &daemon{log: slog.New(slog.DiscardHandler), observed: db}
	d.certificates, err = tlsbridge.NewCertificates(tlsbridge.CertificateOptions{
		Dir: dir, Issuer: tlsbridge.IssuerLocal, Allowed: func(string) bool { return true }, Attempts: attempts{db},
	})
	if err != nil {
		t.Fatal(err)
	}
	if d.store, err = store.Open(t.Context(), store.Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- d.store.Run(ctx) }()
	rules := &onceUnreadable{Store: d.store}
	go func() { ended <- d.retryEdited(ctx, rules) }()
	defer func() {
		cancel()
		if err := errors.Join(<-ended, <-ended, d.close()); err != nil {
			t.Error(err)
		}
		d.certificates.Close()
	}()
	edits := []store.Edit{
		{Table: store.TableRules, Row: map[string]any{"host": "edited.test", "percent": 10}},
		{Table: store.TableRules, Row: map[string]any{"host": "*", "percent": 10}}, // says nothing of certificates
		{Table: store.TableHosts, Row: map[string]any{"host": "*.below.test", "certificate": "any"}},
	}
	if _, err := d.store.Apply(t.Context(), store.Author{Name: "tester", Via: "test"}, edits, false); err != nil {
		t.Fatal(err)
	}
	waiting := waitForBackedOff(t, d, 2)
	if len(waiting) != 2 || waiting[0].Name != "deep.below.below.test" || waiting[1].Name != "other.test" {
		t.Errorf("%+v wait", waiting)
	}
}

// onceUnreadable are rules whose history cannot be read the first time.
type onceUnreadable struct {
	*store.Store
	asked atomic.Bool
}

func (o *onceUnreadable) History(ctx context.Context, f store.Filter) ([]store.Change, error) {
	if !o.asked.Swap(true) {
		return nil, errors.New("the disk is busy")
	}
	return o.Store.History(ctx, f)
}

// waitForBackedOff waits until no more names are held back than so many.
func waitForBackedOff(t *testing.T, d *daemon, atMost int) []tlsbridge.Attempt {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if waiting := d.certificates.Status().BackedOff; len(waiting) <= atMost {
			return waiting
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("still held back: %+v", d.certificates.Status().BackedOff)
		}
	}
}
