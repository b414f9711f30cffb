package main

import (
	"context"
	"errors"
	"log/slog"
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
	for _, name := range []string{"edited.test", "other.test"} {
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
	go func() { ended <- d.retryEdited(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-ended, <-ended, d.close()); err != nil {
			t.Error(err)
		}
		d.certificates.Close()
	}()
	edit := store.Edit{Table: store.TableRules, Row: map[string]any{"host": "edited.test", "percent": 10}}
	if _, err := d.store.Apply(t.Context(), store.Author{Name: "tester", Via: "test"}, []store.Edit{edit}, false); err != nil {
		t.Fatal(err)
	}
	waiting := waitForBackedOff(t, d, 1)
	if len(waiting) != 1 || waiting[0].Name != "other.test" {
		t.Errorf("%+v wait", waiting)
	}
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
