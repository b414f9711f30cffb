package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cutover/rules"
	"cutover/systemd"
)

// ownOf is what a process knows of itself that listens on some addresses, on a machine with 192.0.2.10 and 2001:db8::10.
func ownOf(listeners ...ownListener) *ownAddresses {
	return &ownAddresses{
		listeners: listeners, folder: "/run/none",
		addresses: func() ([]net.Addr, error) {
			return []net.Addr{&net.IPNet{IP: net.ParseIP("192.0.2.10"), Mask: net.CIDRMask(24, 32)}, &net.IPNet{IP: net.ParseIP("2001:db8::10"), Mask: net.CIDRMask(64, 128)}}, nil
		},
		lookUp: func(_ context.Context, _, host string) ([]netip.Addr, error) {
			switch host {
			case "me.test":
				return []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("192.0.2.10")}, nil
			case "other.test":
				return []netip.Addr{netip.MustParseAddr("198.51.100.1")}, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		},
	}
}

func on(address string) ownListener { return ownListener{AddrPort: netip.MustParseAddrPort(address)} }

func TestATargetThatLeadsToCutoverItselfIsRefused(t *testing.T) {
	everywhere, everywhere4, only6 := on("[::]:80"), on("0.0.0.0:80"), ownListener{netip.MustParseAddrPort("[::]:80"), true}
	one := on("192.0.2.10:443")
	for _, row := range []struct {
		listener ownListener
		url      string
		own      bool
	}{
		{everywhere, "http://127.0.0.1", true},
		{everywhere, "http://127.9.9.9:80", true},
		{everywhere, "http://[::1]:80", true},
		{everywhere, "http://0.0.0.0:80", true},
		{everywhere, "http://[::]", true},
		{everywhere, "http://[::ffff:127.0.0.1]:80", true},
		{everywhere, "http://192.0.2.10:80", true},
		{everywhere, "http://[2001:db8::10]", true},
		{everywhere, "fcgi://127.0.0.1:80", true},
		{everywhere, "h2c://192.0.2.10", true},
		{everywhere, "http://127.0.0.1:8080", false},
		{everywhere, "http://192.0.2.11:80", false},
		{everywhere, "https://127.0.0.1", false},
		{everywhere4, "http://127.0.0.1", true},
		{everywhere4, "http://[::1]", false},
		{only6, "http://[::1]", true},
		{only6, "http://127.0.0.1", false},
		{one, "https://192.0.2.10", true},
		{one, "https://127.0.0.1", false}, // v1 may be there
		{one, "https://[::ffff:192.0.2.10]", true},
		{everywhere, "http://me.test", false}, // whoever reads rows asks nobody
		{everywhere, "app:x", false},
		{everywhere, "quic://x", false},
	} {
		err := ownOf(row.listener).refuse(&rules.Target{URL: row.url})
		if got := errors.As(err, new(*ownError)); got != row.own || (err == nil) == row.own {
			t.Errorf("%s with a listener on %s: %v", row.url, row.listener, err)
		}
	}
}

func TestTheNameOfATargetIsLookedUpWhereItIsWritten(t *testing.T) {
	own := ownOf(on("[::]:80"))
	for _, row := range []struct{ url, doubt, err string }{
		{"http://me.test", "", "url http://me.test (192.0.2.10) leads to Cutover itself, which listens on [::]:80"},
		{"dns+http://me.test:80", "", "leads to Cutover itself"},
		{"http://me.test:8080", "", ""},
		{"http://other.test", "", ""},
		{"http://nobody.test", "http://nobody.test: the name nobody.test cannot be looked up now", ""},
		{"http://127.0.0.1:80", "", "leads to Cutover itself"},
		{"http://198.51.100.1", "", ""},
		{"unix:/run/app.sock", "", ""},
		{"file:x", "", ""},
		{"srv+http://_web._tcp.me.test", "", ""},
	} {
		doubt, err := own.check(t.Context(), row.url)
		if !strings.HasPrefix(doubt, row.doubt) || (row.doubt == "") != (doubt == "") || (row.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: %q, %v", row.url, doubt, err)
		}
	}
}

func TestASocketOfCutoversOwnIsNoTargetByWhateverNameItIsReached(t *testing.T) {
	dir, run := t.TempDir(), t.TempDir()
	http, err := net.Listen("unix", filepath.Join(dir, "http.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = http.Close() })
	if err := errors.Join(os.Symlink(run, filepath.Join(dir, "run")), os.Symlink(filepath.Join(dir, "http.sock"), filepath.Join(dir, "link")),
		os.WriteFile(filepath.Join(run, "admin.sock"), nil, 0o600), os.WriteFile(filepath.Join(dir, "app.sock"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	own := newOwnAddresses(systemd.Sockets{systemd.HTTP: {http}}, run)
	for path, want := range map[string]bool{
		dir + "/http.sock": true, dir + "/link": true, run + "/admin.sock": true, dir + "/run/admin.sock": true,
		dir + "/app.sock": false, dir + "/not-yet.sock": false,
	} {
		if err := own.refuse(&rules.Target{URL: "unix:" + path}); (err != nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestTheSocketsThatSystemdHandedOverAreOurOwn(t *testing.T) {
	for _, network := range []string{"tcp", "tcp4"} {
		listener, err := net.Listen(network, ":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		own := newOwnAddresses(systemd.Sockets{systemd.HTTPS: {listener}}, "/run/none")
		if err := own.refuse(&rules.Target{URL: "https://127.0.0.1:" + port}); err == nil {
			t.Errorf("%s: 127.0.0.1 on the port of a socket is taken for somebody else's", network)
		}
	}
}
