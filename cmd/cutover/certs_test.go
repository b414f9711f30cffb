package main

import (
	"errors"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cutover/proxy/admin"
	"cutover/tlsbridge/importing/layouts"
)

const day = 24 * time.Hour

// scriptForeign writes a folder of another program with certificates in it: of shop.example.com and www.example.com, of
// *.example.org, and of old.example.com, which has expired.
func scriptForeign(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: foreign KIND PATH")
	}
	ca, err := layouts.NewCA()
	ts.Check(err)
	shop, one := ca.Issue(-day, 60*day, "shop.example.com", "www.example.com")
	wildcard, two := ca.Issue(-day, 60*day, "*.example.org")
	old, three := ca.Issue(-90*day, -day, "old.example.com")
	ts.Check(errors.Join(one, two, three))
	path := ts.MkAbs(args[1])
	pairs := map[string]layouts.Pair{"shop.example.com": shop, "*.example.org": wildcard, "old.example.com": old}
	if args[0] == "traefik" {
		ts.Check(layouts.Traefik(path, false, pairs))
		return
	}
	for name, pair := range pairs {
		switch args[0] {
		case "certbot":
			err = layouts.Certbot(path, name, pair)
		case "caddy":
			err = layouts.Caddy(path, name, pair, old)
		case "certmagic":
			err = layouts.Certmagic(path, "acme-v02.api.letsencrypt.org-directory", name, pair)
		case "folder":
			err = layouts.Folder(path, name, pair)
		default:
			ts.Fatalf("there is no kind %q", args[0])
		}
		ts.Check(err)
	}
	if args[0] == "certbot" {
		_, err = layouts.CertbotAccount(path, "acme-v02.api.letsencrypt.org", "https://acme-v02.api.letsencrypt.org/acme/acct/42")
		ts.Check(err)
	}
}

func TestMetricsNameOnlyTheTwentyThatEndFirst(t *testing.T) {
	now := time.Now()
	s := certificateSummary{}
	for i := range 50 {
		s.used = append(s.used, admin.Certificate{Name: string(rune('A' + i)), Expires: now.Add(time.Duration(i) * time.Hour)})
	}
	values := s.soonest(now)
	if len(values) != 20 || values["A"] != 0 || values["T"] != 19*3600 {
		t.Errorf("%v", values)
	}
	if values := (&certificateSummary{}).soonest(now); len(values) != 0 {
		t.Errorf("of none: %v", values)
	}
}

func TestDaysLeftArePlain(t *testing.T) {
	now := time.Now()
	for want, left := range map[string]time.Duration{"60d": 60*day + time.Hour, "47h": 47*time.Hour + time.Minute, "0d": -time.Hour, "2d": 48*time.Hour + time.Second} {
		if got := daysLeft(now.Add(left), now); got != want {
			t.Errorf("%v: %q, want %q", left, got, want)
		}
	}
}

func TestASummaryOfVeryManyCertificatesIsMadeSeldom(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		time.Millisecond: 15 * time.Second, 300 * time.Millisecond: time.Minute, 4 * time.Second: 5 * time.Minute,
	} {
		if got := summaryLife(took); got != want {
			t.Errorf("one that took %v is good for %v, want %v", took, got, want)
		}
	}
}
