package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cutover/tlsbridge"
)

func TestNamesAreProvedByAServerOrByACommandAndNotByBoth(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("c2VjcmV0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	byServer := DNSConfig{Server: "192.0.2.53:53", Key: "k", Secret: secret}
	byCommand := DNSConfig{Command: "/etc/cutover/dns-hook", Socket: "/run/hook.sock", Timeout: time.Second, Resolvers: []string{"192.0.2.1:53"}}
	both := byServer
	both.Command = byCommand.Command
	if prover, err := dnsProver(DNSConfig{}, nil); prover != nil || err != nil {
		t.Errorf("by nothing: %v, %v", prover, err)
	}
	if prover, err := dnsProver(byServer, nil); err != nil {
		t.Errorf("by a server: %v, %v", prover, err)
	} else if _, ok := prover.(*tlsbridge.DNSUpdate); !ok {
		t.Errorf("by a server: %T", prover)
	}
	prover, err := dnsProver(byCommand, nil)
	hook, ok := prover.(*tlsbridge.DNSHook)
	if err != nil || !ok || hook.Socket != byCommand.Socket || hook.Time != time.Second || !slices.Equal(hook.Resolvers, byCommand.Resolvers) {
		t.Errorf("by a command: %+v, %v", prover, err)
	}
	if _, err := dnsProver(both, nil); err == nil || !strings.Contains(err.Error(), "acme.dns.server and acme.dns.command") || !errors.As(err, new(*hintError)) {
		t.Errorf("by both: %v", err)
	}
}

func TestTheProgramOfTheHookIsTheOneThatAFileOfRootsNames(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cutover.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CUTOVER_ACME_DNS_COMMAND", "/bin/evil") // whoever may set variables has no say in it
	write("[acme.dns]\ncommand = \"/etc/cutover/dns-hook\"\ntimeout = \"7s\"\n")
	if p, err := findDNSProgram(file); err != nil || p.Command != "/etc/cutover/dns-hook" || p.Time != 7*time.Second {
		t.Errorf("%+v, %v", p, err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := findDNSProgram(file); err == nil || !strings.Contains(err.Error(), "chmod go-w "+file) {
		t.Errorf("a file that others may write: %v", err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	write("")
	if _, err := findDNSProgram(file); err == nil || !strings.Contains(err.Error(), "acme.dns.command does not stand in "+file) {
		t.Errorf("a file that names none: %v", err)
	}
	if _, err := findDNSProgram(file + "-gone"); err == nil {
		t.Error("no file is well")
	}
}
