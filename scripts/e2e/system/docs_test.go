package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/tlsbridge/importing/layouts"
)

// blocks returns the blocks of shell commands of a page.
func blocks(t *testing.T, page string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(fromTest(t, "CUTOVER_SOURCE"), "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for i, part := range strings.Split(string(text), "```") {
		if commands, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			list = append(list, commands)
		}
	}
	if len(list) == 0 {
		t.Fatalf("%s has no commands", page)
	}
	return list
}

// followPage runs every command of a page, block by block, as an operator would at a prompt. It returns what they printed.
func (m *machine) followPage(page string) string {
	m.t.Helper()
	// The box has no sudo, and needs none.
	m.Run(`command -v sudo || { printf '#!/bin/sh\nexec "$@"\n' >/usr/local/bin/sudo && chmod 755 /usr/local/bin/sudo; }`)
	m.Run("command -v cutover || ln -s /opt/cutover/cutover /usr/local/bin/cutover")
	var said strings.Builder
	for _, block := range blocks(m.t, page) {
		path := filepath.Join(m.folder, "block.sh")
		if err := os.WriteFile(path, []byte("set -euo pipefail\n"+block), 0o644); err != nil {
			m.t.Fatal(err)
		}
		got, err := m.Try("CURL_CA_BUNDLE=/etc/roots.pem bash " + path + " 2>&1")
		if err != nil {
			m.t.Errorf("%s: %v\n%s\nsaid:\n%s", page, err, block, got)
		}
		said.WriteString(got + "\n")
	}
	return said.String()
}

// hasCertbot gives the machine what certbot would have left: a certificate for two hosts, and an expired one.
func (m *machine) hasCertbot() {
	m.t.Helper()
	ca, err := layouts.NewCA()
	if err != nil {
		m.t.Fatal(err)
	}
	root := filepath.Join(m.folder, "letsencrypt")
	for name, each := range map[string]struct {
		from, to time.Duration
		names    []string
	}{
		"shop.example.com": {-24 * time.Hour, 60 * 24 * time.Hour, []string{"shop.example.com", "www.example.com"}},
		"old.example.com":  {-90 * 24 * time.Hour, -24 * time.Hour, []string{"old.example.com"}},
	} {
		pair, err := ca.Issue(each.from, each.to, each.names...)
		if err == nil {
			err = layouts.Certbot(root, name, pair)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(m.folder, "root.pem"), ca.RootPEM(), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.Run("rm -rf /etc/letsencrypt && cp -a " + root + " /etc/letsencrypt && chown -R root:root /etc/letsencrypt")
	m.Run("cat " + m.folder + "/root.pem /etc/pebble-issuer.pem >/etc/roots.pem")
}

func TestThePageOnCertificatesIsTrueToTheLastCommand(t *testing.T) {
	m := install(t)
	m.Run("for name in shop www new; do echo 127.0.0.1 $name.example.com; done >>/etc/hosts")
	m.Run("ip address add 192.0.2.10/32 dev lo && ip address add 192.0.2.53/32 dev lo")
	m.Run("rm -f /etc/resolv.conf && echo nameserver 127.0.0.1 >/etc/resolv.conf")
	m.configure("[acme]\ndirectory = \"" + m.startPebble("-names", "127.0.0.1:53", "-manage", "192.0.2.53:8055") + "\"\nroot = \"/etc/pebble-root.pem\"\n")
	m.Run("systemctl restart cutover.service")
	m.hasCertbot()
	said := m.followPage("certificates.md")
	for _, want := range []string{
		"certbot: 2 certificates would be stored; nothing was changed",
		"certbot: 2 certificates stored",
		"left out: it expired on",
		"subject=CN = shop.example.com",
		"subject=CN = intern.example.com",
		"v1: GET shop.example.com/ over https",
		"v1: GET www.example.com/ over https",
		"none of 3 certificates ends within 7 days",
		"left out: it is there already",
		"Without a certificate for now: new.example.com",
		"1 of 1 host done", // the wildcard, by the hook
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in:\n%s", want, said)
		}
	}
	if got := m.Run("find /var/lib/cutover ! -user cutover"); got != "" {
		t.Errorf("root left files of its own: %s", got)
	}
	if got := m.get("--cacert /etc/roots.pem --resolve any.example.com:443:127.0.0.1 https://any.example.com/"); !strings.HasPrefix(got, "v1:") {
		t.Errorf("with the wildcard certificate a visitor got %q", got)
	}
	if got := m.get("--cacert /etc/roots.pem --max-time 60 https://new.example.com/"); !strings.HasPrefix(got, "v1:") {
		t.Errorf("after a revocation the next visitor got %q", got)
	}
}

func TestCertificatesAreImportedWithoutADaemonAndServedAfterItsStart(t *testing.T) {
	m := install(t)
	m.configure("[acme]\ndirectory = \"" + m.startPebble() + "\"\nroot = \"/etc/pebble-root.pem\"\n")
	m.hasCertbot()
	m.Run("systemctl stop cutover.service && /opt/cutover/cutover certs import /etc/letsencrypt && systemctl start cutover.service")
	if got := m.Run("find /var/lib/cutover ! -user cutover"); got != "" {
		t.Errorf("root left files of its own: %s", got)
	}
	if got := m.get("--cacert /etc/roots.pem --resolve shop.example.com:443:127.0.0.1 https://shop.example.com/"); !strings.HasPrefix(got, "v1:") {
		t.Errorf("got %q", got)
	}
	m.Run("systemctl stop cutover.service && /opt/cutover/cutover certs ls | grep 'shop.example.com .* not in the rules' && systemctl start cutover.service")
}
