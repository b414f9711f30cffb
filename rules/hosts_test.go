package rules

import (
	"slices"
	"strings"
	"testing"
)

func hostRow(host string, change func(*Host)) Host {
	h := Host{Host: host, HTTPS: HTTPSOff, Needs: 1, Certificate: CertificateAuto, TLS: TLSTerminate}
	if change != nil {
		change(&h)
	}
	return h
}

func TestTheMostSpecificRowOfHostsHolds(t *testing.T) {
	rows := rowsOf()
	rows.Hosts = []Host{
		hostRow("*", func(h *Host) { h.HSTS = 1 }),
		hostRow("*.B.test", func(h *Host) { h.HSTS, h.HTTPS, h.TLS = 2, HTTPSRedirect, TLSPassthrough }),
		hostRow("a.b.test", func(h *Host) { h.HSTS, h.Certificate = 3, "file:shop.example" }),
	}
	view := compile(t, rows)
	for name, want := range map[string]Host{
		"a.b.test":   {Host: "a.b.test", HTTPS: HTTPSOff, HSTS: 3, Certificate: "file:shop.example", TLS: TLSTerminate},
		"c.b.test":   {Host: "*.b.test", HTTPS: HTTPSRedirect, HSTS: 2, Certificate: CertificateAuto, TLS: TLSPassthrough},
		"b.test":     {Host: "*", HTTPS: HTTPSOff, HSTS: 1, Certificate: CertificateAuto, TLS: TLSTerminate},
		"d.c.b.test": {Host: "*", HTTPS: HTTPSOff, HSTS: 1, Certificate: CertificateAuto, TLS: TLSTerminate},
	} {
		if got, ok := view.Host(name); !ok || got != want {
			t.Errorf("%s has %+v, %v", name, got, ok)
		}
		if got, want := view.Names(name), name == "a.b.test"; got != want {
			t.Errorf("whether a row names %s exactly: %v", name, got)
		}
		if d := view.Match(ask(name, "/")); d.HSTS != want.HSTS || d.HTTPS != want.HTTPS {
			t.Errorf("a request for %s has %v and %v", name, d.HTTPS, d.HSTS)
		}
	}
	if _, ok := compile(t, rowsOf()).Host("a.test"); ok {
		t.Error("a host without a row has one")
	}
	if n := testing.AllocsPerRun(100, func() { view.Match(ask("c.b.test", "/")) }); n > 2 { // the request itself
		t.Errorf("%v allocations", n)
	}
}

func TestARowOfHostsOptsNamesIntoCertificatesAndOut(t *testing.T) {
	rows := rowsOf(rule(1, "plain.test", nil), rule(2, "a.off.test", nil), rule(3, "filed.test", nil), rule(4, "raw.test", nil), rule(5, "*.any.test", nil))
	rows.Hosts = []Host{
		hostRow("*.any.test", func(h *Host) { h.Certificate = CertificateAny }),
		hostRow("no.any.test", func(h *Host) { h.Certificate = CertificateOff }),
		hostRow("auto.any.test", nil),
		hostRow("*.off.test", func(h *Host) { h.Certificate = CertificateOff }),
		hostRow("filed.test", func(h *Host) { h.Certificate = "file:own" }),
		hostRow("raw.test", func(h *Host) { h.TLS, h.Certificate = TLSPassthrough, CertificateAny }),
	}
	view := compile(t, rows)
	for name, want := range map[string]bool{
		"plain.test": true, "x.any.test": true, "any.test": false, "y.x.any.test": false, "no.any.test": false, "auto.any.test": true,
		"a.off.test": false, "filed.test": false, "raw.test": false, "my_host.any.test": false, "-x.any.test": false,
	} {
		if got := view.Allows(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := slices.Sorted(view.Hosts()); !slices.Equal(got, []string{"auto.any.test", "plain.test"}) {
		t.Errorf("known are %v", got)
	}
}

func TestABadRowOfHostsKeepsItsLastGoodVersion(t *testing.T) {
	rows := rowsOf()
	rows.Hosts = []Host{hostRow("*.b.test", func(h *Host) { h.Certificate, h.HSTS = "file:own", 7 })}
	first := compile(t, rows)
	rows.Hosts[0].Certificate = "file:/etc/passwd"
	for name, view := range map[string]*View{
		"compiled": func() *View { v, _ := Compile(rows, first, noon); return v }(),
		"updated":  first.Update(Update{Hosts: []HostUpdate{{Host: "*.b.test", Row: &rows.Hosts[0]}}}),
		"thawed":   func() *View { v, _ := Compile(rows, thawed(t, first), noon); return v }(),
	} {
		got, _ := view.Host("a.b.test")
		if got.Certificate != "file:own" || got.HSTS != 7 {
			t.Errorf("%s: %+v", name, got)
		}
		if problems := view.Problems(); len(problems) != 1 || !problems[0].Serving || problems[0].Row != "*.b.test" {
			t.Errorf("%s: %+v", name, problems)
		}
	}
}

func TestRowsOfHostsAndUpstreamsThatMakeNoSenseSayWhy(t *testing.T) {
	for _, certificate := range []string{"x", "file:", "file:a/b", "file:.hidden", "file:..", "file:a b", "File:a", "file:" + strings.Repeat("a", 129)} {
		row := hostRow("a.test", func(h *Host) { h.Certificate = certificate })
		if err := row.Validate(); err == nil || !strings.Contains(err.Error(), "file:NAME") {
			t.Errorf("%s: %v", certificate, err)
		}
	}
	row := hostRow("a.test", func(h *Host) { h.TLS = "off" })
	if err := row.Validate(); err == nil || !strings.Contains(err.Error(), "passthrough") {
		t.Error(err)
	}
	up := Upstream{Name: "v1", ProxyProtocol: "v3"}
	if err := up.Validate(); err == nil || !strings.Contains(err.Error(), "off, v1 or v2") {
		t.Error(err)
	}
}

// A release of schema 1 falls back on snapshots of this one: it must find in them what it knows, and nothing else.
func TestWhatAnOlderReleaseReadsOfAPlaceIsAsItWas(t *testing.T) {
	old := place{policy: true, https: true, hsts: 60, deep: 3, longest: 9, entries: "entries"}
	grown := old
	grown.certificate, grown.passthrough, grown.file = certificateFile, true, "x"
	a, b := old.append(nil), grown.append(nil)
	if len(a) != len(b) || string(a[1:]) != string(b[1:]) || a[0] != b[0]&7 {
		t.Errorf("%q became %q", a, b)
	}
}
