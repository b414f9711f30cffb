package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheKeyOfDNSUpdatesIsCheckedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	for file, text := range map[string]string{good: "c2VjcmV0\n", bad: "not a secret!"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const server = "192.0.2.53:53"
	for name, row := range map[string]struct {
		config DNSConfig
		want   string
	}{
		"no key":    {DNSConfig{Server: server, Secret: good}, "needs acme.dns.key and acme.dns.secret"},
		"no secret": {DNSConfig{Server: server, Key: "k"}, "needs acme.dns.key and acme.dns.secret"},
		"no file":   {DNSConfig{Server: server, Key: "k", Secret: filepath.Join(dir, "none")}, "no such file"},
		"no base64": {DNSConfig{Server: server, Key: "k", Secret: bad}, "does not hold base64"},
	} {
		if _, err := dnsUpdate(row.config); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if update, err := dnsUpdate(DNSConfig{Server: server, Key: "k", Secret: good}); err != nil || update.Secret != "c2VjcmV0" {
		t.Errorf("%+v, %v", update, err)
	}
	if update, err := dnsUpdate(DNSConfig{}); err != nil || update != nil {
		t.Errorf("without a server: %+v, %v", update, err)
	}
}
