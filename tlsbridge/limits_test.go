package tlsbridge

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// guarded is a socket behind a limiter. What is let in is kept open.
type guarded struct {
	*Limiter
	address string
	in      chan net.Conn
	refused chan string
}

// guard puts a limiter before a socket; change may change what is done with what is let in.
func guard(t *testing.T, o LimiterOptions, handshakes bool, change func(net.Conn)) *guarded {
	t.Helper()
	g := &guarded{in: make(chan net.Conn, 1000), refused: make(chan string, 1000)}
	o.OnRefused = func(reason string, _ net.Addr) { g.refused <- reason }
	g.Limiter = NewLimiter(o)
	handle := func(c net.Conn) {
		if change != nil {
			change(c)
		}
		g.in <- c
	}
	limits := g.Connections
	if handshakes {
		limits = g.Handshakes
	}
	listener := listen(t)
	g.address = listener.Addr().String()
	stop := run(t, &Acceptor{Listener: listener, Handle: limits(handle)})
	t.Cleanup(func() {
		stop()
		for len(g.in) > 0 {
			_ = (<-g.in).Close()
		}
		if g.Open() != 0 || g.Networks() != 0 {
			t.Errorf("with nothing open, %d connections of %d networks are counted", g.Open(), g.Networks())
		}
	})
	return g
}

// dial opens a connection from an address of the loopback. One that is refused may be reset before that is done.
func (g *guarded) dial(t *testing.T, address string) (net.Conn, error) {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).Dial("tcp", g.address)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// from opens a connection that is to be let in.
func (g *guarded) from(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := g.dial(t, address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// admitted fails the test unless a connection is let in, which it returns.
func (g *guarded) admitted(t *testing.T) net.Conn {
	t.Helper()
	select {
	case c := <-g.in:
		return c
	case reason := <-g.refused:
		t.Fatalf("refused: %s", reason)
	case <-time.After(10 * time.Second):
		t.Fatal("nobody came")
	}
	return nil
}

// turnedAway fails the test unless a connection from an address is refused for a reason, and its client sees that at once.
func (g *guarded) turnedAway(t *testing.T, address, want string) {
	t.Helper()
	client, err := g.dial(t, address)
	select {
	case reason := <-g.refused:
		if reason != want {
			t.Errorf("refused for %q, want %q", reason, want)
		}
	case c := <-g.in:
		t.Fatalf("%v was let in", c.RemoteAddr())
	case <-time.After(10 * time.Second):
		t.Fatal("nobody came")
	}
	if err == nil {
		_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = client.Read(make([]byte, 1))
	}
	if err == nil || isTimeout(err) {
		t.Errorf("the client saw %v", err)
	}
}

func TestANetworkBeyondItsConnectionsIsRefusedAndOthersAreNot(t *testing.T) {
	g := guard(t, LimiterOptions{NetworkConnections: 2}, false, nil)
	g.from(t, "127.0.0.1")
	first := g.admitted(t)
	g.from(t, "127.0.0.1")
	second := g.admitted(t)
	g.turnedAway(t, "127.0.0.1", TooManyFromNetwork)
	g.from(t, "127.0.0.2")
	other := g.admitted(t)
	_ = first.Close()
	_ = first.Close() // twice, as net/http may
	g.from(t, "127.0.0.1")
	_ = g.admitted(t).Close()
	_, _ = second.Close(), other.Close()
}

func TestANetworkBeyondItsHandshakesIsRefusedUntilOneIsDone(t *testing.T) {
	g := guard(t, LimiterOptions{NetworkHandshakes: 1, NetworkConnections: 10}, true, nil)
	g.from(t, "127.0.0.1")
	first := g.admitted(t)
	g.turnedAway(t, "127.0.0.1", TooManyNetworkHandshakes)
	g.from(t, "127.0.0.2")
	_ = g.admitted(t).Close()
	handshakeDone(first, true)
	g.from(t, "127.0.0.1")
	_, _ = g.admitted(t).Close(), first.Close()
}

func TestHandshakesInAllAreBounded(t *testing.T) {
	g := guard(t, LimiterOptions{Handshakes: 2}, true, nil)
	for _, address := range []string{"127.0.0.1", "127.0.0.2"} {
		g.from(t, address)
		c := g.admitted(t)
		defer func() { _ = c.Close() }()
	}
	g.turnedAway(t, "127.0.0.3", TooManyHandshakes)
}

func TestExemptNetworksAreBoundInAllAlone(t *testing.T) {
	trusted := func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.9") }
	g := guard(t, LimiterOptions{NetworkConnections: 1, Connections: 3, Exempt: trusted}, false, nil)
	for range 3 {
		g.from(t, "127.0.0.9")
		c := g.admitted(t)
		defer func() { _ = c.Close() }()
	}
	g.turnedAway(t, "127.0.0.9", TooManyConnections)
}

func TestWhereAllConnectionsAreOpenRestingOnesMakeRoom(t *testing.T) {
	resting := make(chan net.Conn, 1)
	var asked atomic.Int64
	g := guard(t, LimiterOptions{Connections: 1, MakeRoom: func() bool {
		asked.Add(1)
		select {
		case c := <-resting:
			return c.Close() == nil
		default:
			return false
		}
	}}, false, nil)
	g.from(t, "127.0.0.1")
	resting <- g.admitted(t)
	g.from(t, "127.0.0.2")
	busy := g.admitted(t)
	g.turnedAway(t, "127.0.0.3", TooManyConnections)
	if asked.Load() != 2 {
		t.Errorf("asked %d times for room", asked.Load())
	}
	_ = busy.Close()
}

func TestAHandshakeThatEndsInAnyWayIsCountedNoMore(t *testing.T) {
	h := &Handshaker{Config: testConfig(t), Sinks: map[string]Sink{"": newSink()}}
	kept := h.Sinks[""].(sink)
	g := guard(t, LimiterOptions{NetworkHandshakes: 1, NetworkConnections: 4}, true, h.Handle)
	for _, name := range []string{"a.test", "unknown.test", "a.test"} {
		client := g.from(t, "127.0.0.1")
		_ = g.admitted(t)
		err := tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true}).HandshakeContext(t.Context())
		if (err == nil) != (name == "a.test") {
			t.Fatalf("%s: %v", name, err)
		}
		if err == nil {
			defer func() { _ = (<-kept.conns).Close() }()
		}
		if err := h.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := g.handshakes.Load(); n != 0 {
			t.Errorf("after the handshake for %s, %d are counted", name, n)
		}
	}
}

func TestAnIPv6NetworkIsA64(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1":            "192.0.2.1",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"2001:db8:1:2:ffff::":  "2001:db8:1:2::",
		"2001:db8:1:3::1":      "2001:db8:1:3::",
	} {
		if got := networkOf(netip.MustParseAddr(text)); got != netip.MustParseAddr(want) {
			t.Errorf("%s is counted for %v, want %s", text, got, want)
		}
	}
}

func TestNetworksThatHaveGoneTakeNoMemory(t *testing.T) {
	l := NewLimiter(LimiterOptions{})
	const flood = 200_000
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range flood {
		l.admit(address(i), false)
	}
	for i := range flood - 10 {
		l.forget(address(i), false)
	}
	if l.Networks() != 10 {
		t.Errorf("%d networks are remembered", l.Networks())
	}
	for i := range l.shards {
		if most := l.shards[i].most; most > 64 {
			t.Errorf("shard %d keeps room for %d networks", i, most)
		}
	}
}

func TestLimitsHoldWhileManyComeAndGoAtOnce(t *testing.T) {
	g := guard(t, LimiterOptions{NetworkConnections: 5, Connections: 8}, false, nil)
	var most, refused atomic.Int64
	var visitors sync.WaitGroup
	for range 20 {
		visitors.Go(func() {
			for range 20 {
				c, err := net.Dial("tcp", g.address)
				if err != nil {
					continue
				}
				select {
				case in := <-g.in:
					most.Store(max(most.Load(), int64(g.Open())))
					_ = in.Close()
				case <-g.refused:
					refused.Add(1)
				}
				_ = c.Close()
			}
		})
	}
	visitors.Wait()
	if most.Load() > 5 {
		t.Errorf("%d connections of one network were open", most.Load())
	}
}

func TestWhatIsCountedCanStillBeSpliced(t *testing.T) {
	g := guard(t, LimiterOptions{}, false, nil)
	client := g.from(t, "127.0.0.1")
	in := g.admitted(t)
	defer func() { _ = in.Close() }()
	if _, ok := in.(io.ReaderFrom); !ok {
		t.Error("the kernel cannot copy to it")
	}
	if half, ok := in.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		t.Error("one direction cannot be ended")
	}
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client saw %v", err)
	}
}

// BenchmarkAccept opens and closes connections one after the other, without limits and with them, to be compared.
func BenchmarkAccept(b *testing.B) {
	closing := func(c net.Conn) { _ = c.Close() }
	limits := NewLimiter(LimiterOptions{Connections: 1 << 20, NetworkConnections: 512, Handshakes: 4096, NetworkHandshakes: 64})
	for _, row := range []struct {
		name   string
		handle func(net.Conn)
	}{{"without", closing}, {"with", limits.Handshakes(closing)}} {
		b.Run(row.name, func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			a := &Acceptor{Listener: listener, Handle: row.handle}
			done := make(chan error, 1)
			go func() { done <- a.Run(b.Context()) }()
			for b.Loop() {
				c, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				_, _ = c.Read(make([]byte, 1)) // until it is closed
				_ = c.Close()
			}
			_ = listener.Close()
			<-done
		})
	}
}

// BenchmarkAdmit counts and forgets connections of many networks on all processors at once.
func BenchmarkAdmit(b *testing.B) {
	l := NewLimiter(LimiterOptions{Connections: 1 << 20, NetworkConnections: 512, Handshakes: 1 << 20, NetworkHandshakes: 64})
	var next atomic.Uint32
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := next.Add(1)
			network := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			l.admit(network, true)
			c := &limited{limiter: l, network: network}
			c.handshaking.Store(true)
			c.HandshakeDone(false)
			l.connections.Add(-1)
			l.forget(network, false)
		}
	})
}

func TestWhatALoadBalancerBringsIsCountedForItsClient(t *testing.T) {
	limiter := NewLimiter(LimiterOptions{NetworkConnections: 1})
	ours, theirs := pair(t)
	defer func() { _ = ours.Close() }()
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}
	var taken net.Conn
	limiter.Connections(func(c net.Conn) { taken = c })(&brought{theirs.(*net.TCPConn), client})
	if taken == nil || taken.RemoteAddr() != client || socketOf(taken) != theirs {
		t.Fatalf("got %v", taken)
	}
	if _, counted := limiter.shardOf(netip.MustParseAddr("192.0.2.7")).networks[netip.MustParseAddr("192.0.2.7")]; !counted {
		t.Error("the client's network has none")
	}
	_ = taken.Close()
	if limiter.Open() != 0 || limiter.Networks() != 0 {
		t.Error("it is counted after its end")
	}
}
