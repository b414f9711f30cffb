package tlsbridge

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// waiting counts who waits for a turn.
func (t *turns) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := len(t.ahead)
	for _, r := range []*ring{&t.familiar, &t.strangers} {
		for _, line := range r.lines {
			sum += len(line)
		}
	}
	return sum
}

// network is a client by one letter; a capital is a familiar one, and - goes before all.
func network(letter rune) client {
	if letter == '-' {
		return client{}
	}
	return client{netip.AddrFrom4([4]byte{192, 0, 2, byte(letter)}), letter < 'a'}
}

// orderOf has clients wait for a single turn, one after the other, and returns the order in which they get it.
func orderOf(t *testing.T, arrivals string) string {
	t.Helper()
	var u turns
	u.enter(network('z'), 1)
	order := make(chan rune)
	var waiting sync.WaitGroup
	for i, letter := range arrivals {
		waiting.Go(func() {
			u.enter(network(letter), 1)
			order <- letter
		})
		await(t, func() bool { return u.waiting() == i+1 })
	}
	var got []rune
	for range arrivals {
		u.leave()
		got = append(got, <-order)
	}
	waiting.Wait()
	u.leave()
	if u.taken != 0 || u.waiting() != 0 || len(u.strangers.lines)+len(u.familiar.lines) != 0 {
		t.Errorf("in the end, %d are taken and %d wait", u.taken, u.waiting())
	}
	return string(got)
}

func await(t *testing.T, holds func() bool) {
	t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatal("waited in vain")
		case <-ticker.C:
		}
	}
}

func TestNetworksThatWaitForHandshakesTakeTurns(t *testing.T) {
	for arrivals, want := range map[string]string{
		"aaaabc":     "abcaaa",
		"aabb":       "abab",
		"aab-":       "-aba",       // what has begun, or speaks for many
		"aaaaBBBBBB": "BBBaBBBaaa", // a familiar network has three of four
		"aaaaBC":     "BCaaaa",
	} {
		if got := orderOf(t, arrivals); got != want {
			t.Errorf("%s got their turns as %s, want %s", arrivals, got, want)
		}
	}
}

func TestNoMoreComputeThanMay(t *testing.T) {
	var u turns
	var now, most atomic.Int64
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			u.enter(network(rune('a'+i%7)), 3)
			n := now.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			now.Add(-1)
			u.leave()
		})
	}
	all.Wait()
	if most.Load() > 3 || u.taken != 0 {
		t.Errorf("%d computed at once, and %d turns are taken in the end", most.Load(), u.taken)
	}
}

func TestANetworkIsFamiliarWhileItHasAConnectionWhoseHandshakeHasSucceeded(t *testing.T) {
	g := guard(t, LimiterOptions{}, true, nil)
	g.from(t, "127.0.0.1")
	first := g.admitted(t)
	if clientBehind(first).familiar {
		t.Error("it is familiar by the handshake itself")
	}
	handshakeDone(first, true)
	g.from(t, "127.0.0.1")
	second := g.admitted(t)
	if !clientBehind(second).familiar {
		t.Error("it is a stranger still")
	}
	_ = first.Close()
	if clientBehind(second).familiar {
		t.Error("it is familiar after the connection's end")
	}
	handshakeDone(second, false)
	if clientBehind(second).familiar {
		t.Error("it is familiar by a handshake that failed, or was passed on")
	}
	_ = second.Close()
	handshakeDone(second, true)
	if g.Networks() != 0 {
		t.Error("what is closed is counted")
	}
}

func TestANetworkIsNotFamiliarByConnectionsWithoutTLS(t *testing.T) {
	g := guard(t, LimiterOptions{}, false, nil)
	g.from(t, "127.0.0.1")
	plain := g.admitted(t)
	defer func() { _ = plain.Close() }()
	if clientBehind(plain).familiar {
		t.Error("it is familiar without a handshake")
	}
}

// oneAtATime is a Handshaker with a single turn, whose certificates may have to be waited for.
func oneAtATime(t *testing.T, wait func(name string)) *Handshaker {
	t.Helper()
	certificate := testConfig(t).GetCertificate
	config := &tls.Config{GetConfigForClient: HelloArrived, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		back := aside(hello.Context())
		wait(hello.ServerName)
		back()
		named := *hello
		named.ServerName = "a.test"
		return certificate(&named)
	}}
	return &Handshaker{Config: config, Computing: 1, Sinks: map[string]Sink{"": newSink()}}
}

// halfway is a client's end on which nothing is understood of what comes.
type halfway struct{ net.Conn }

func (h halfway) Read(b []byte) (int, error) {
	if _, err := h.Conn.Read(b); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

// shakes fails the test unless a handshake succeeds.
func shakes(t *testing.T, h *Handshaker) {
	t.Helper()
	client, server := pair(t)
	_ = client.SetDeadline(time.Now().Add(20 * time.Second))
	h.Handle(server)
	if err := tls.Client(client, &tls.Config{ServerName: "a.test", InsecureSkipVerify: true}).HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = (<-h.Sinks[""].(sink).conns).Close()
}

func TestAHandshakeThatWaitsForItsClientOrItsCertificateHoldsNoTurn(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		begun, end := make(chan struct{}, 1), make(chan struct{})
		h := oneAtATime(t, func(name string) {
			if name == "slow.test" {
				begun <- struct{}{}
				<-end
			}
		})
		client, server := pair(t)
		h.Handle(server)
		done := make(chan error, 1)
		go func() {
			done <- tls.Client(client, &tls.Config{ServerName: "slow.test", InsecureSkipVerify: true, MaxVersion: version}).HandshakeContext(t.Context())
		}()
		<-begun
		shakes(t, h)
		close(end)
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = (<-h.Sinks[""].(sink).conns).Close()

		silent, server := pair(t) // says its hello, and nothing more
		h.Handle(server)
		_ = tls.Client(halfway{silent}, &tls.Config{ServerName: "a.test", InsecureSkipVerify: true, MaxVersion: version}).HandshakeContext(t.Context())
		shakes(t, h)
		_ = silent.Close()
		if err := h.Wait(t.Context()); err != nil || h.turns.taken != 0 {
			t.Errorf("%v, %d turns are taken in the end", err, h.turns.taken)
		}
	}
}

func TestAnUnknownNameIsRefusedBeforeAnythingIsComputedForIt(t *testing.T) {
	var asked atomic.Int64
	results := make(chan string, 2)
	h := oneAtATime(t, func(string) { asked.Add(1) })
	h.Knows = func(name string) bool { return name == "a.test" }
	h.OnResult = func(result string) { results <- result }
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := pair(t)
		h.Handle(server)
		err := tls.Client(client, &tls.Config{ServerName: "b.test", InsecureSkipVerify: true, MaxVersion: version}).HandshakeContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("the client was told %v", err)
		}
		if result := <-results; result != "refused" || asked.Load() != 0 {
			t.Errorf("it counts as %s, and a certificate was asked for %d times", result, asked.Load())
		}
	}
	shakes(t, h)
}

func TestANameIsKnownThatHasACertificateOrMayHaveOne(t *testing.T) {
	c, err := NewCertificates(CertificateOptions{
		Dir: t.TempDir(), Issuer: IssuerLocal, Allowed: func(name string) bool { return slices.Contains([]string{"may.test", "own.test"}, name) },
		Files: func(name string) (string, bool) { return "missing", name == "own.test" },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.kept.add("kept.test")
	c.kept.add("*.wild.test")
	for name, want := range map[string]bool{
		"may.test": true, "MAY.test.": true, "kept.test": true, "a.wild.test": true,
		"own.test": false, "other.test": false, "a.b.wild.test": false, "": false,
	} {
		if got := c.Knows(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}
