package acme

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cutover/scripts/e2e/pebble"
	"cutover/tlsbridge"
)

// hookFor writes a hook that talks to the management of Pebble's name server.
func hookFor(t *testing.T, ca *pebble.Server) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dns-hook")
	text := `#!/bin/sh
case $1 in
present) path=set-txt ;;
cleanup) path=clear-txt ;;
esac
exec curl -sS --fail --max-time 30 -d "{\"host\": \"$2\", \"value\": \"$3\"}" http://` + ca.Manage() + `/$path
`
	if err := os.WriteFile(file, []byte(text), 0o755); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	return file
}

func hooked(t *testing.T, ca *pebble.Server, command string) *tlsbridge.DNSHook {
	t.Helper()
	names, err := ca.Names()
	if err != nil {
		t.Fatal(err)
	}
	return &tlsbridge.DNSHook{Socket: runner(t, command), Resolvers: []string{names}}
}

// runner runs a hook for each connection to a socket, as cutover-dns@.service does, and returns where that is.
func runner(t *testing.T, command string) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "hook") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return // closed
			}
			serving.Go(func() {
				_ = (&tlsbridge.DNSProgram{Command: command}).Answer(context.Background(), c) // the other side sees it
				_ = c.Close()
			})
		}
	})
	return listener.Addr().String()
}

func TestNamesAreProvedByACommandOfTheOperators(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, func(o *pebble.Options) {
		nobody(t)(o)
		o.Manage = "127.0.0.1:0"
	})
	queue := &queueInMemory{}
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) {
		o.DNS, o.Queue = hooked(t, ca, hookFor(t, ca)), queue
		o.AllowedWildcard = func(name string) bool { return name == "*.shop.test" }
		o.Preflight = &tlsbridge.Preflight{} // the names lead elsewhere, and need not lead here
	})
	if _, err := e.certificates.Prefetch(t.Context(), 0, []string{"shop.test", "*.shop.test"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, 120*time.Second, "certificates", func() bool { return len(queue.done()) == 2 })
	if set, left := ca.Texts(); set != 2 || left != 0 {
		t.Errorf("%d records were set, and %d are left behind", set, left)
	}
	if got := leaf(mustShake(t, e, "any.shop.test", nil)); got.VerifyHostname("any.shop.test") != nil || ca.Orders() != 2 {
		t.Errorf("served %v after %d orders", got.DNSNames, ca.Orders())
	}
}

func TestACommandThatFailsIsAFailureOfTheName(t *testing.T) {
	s := newSockets(t)
	ca := startPebble(t, s, func(o *pebble.Options) { o.Manage = "127.0.0.1:0" })
	file := filepath.Join(t.TempDir(), "dns-hook")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho no such zone >&2\nexit 1\n"), 0o755); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	e := startEdge(t, s, ca, t.TempDir(), func(o *tlsbridge.CertificateOptions) { o.DNS = hooked(t, ca, file) })
	if _, err := e.shake("shop.test", nil); err == nil {
		t.Fatal("a certificate was issued")
	}
	waiting := e.certificates.Status().BackedOff
	if len(waiting) != 1 || !strings.Contains(waiting[0].Error, "no such zone") || ca.Orders() != 1 {
		t.Errorf("%+v, %d orders", waiting, ca.Orders())
	}
}
