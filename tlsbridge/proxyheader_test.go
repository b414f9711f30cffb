package tlsbridge

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
)

func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// balancer is a ProxyProtocol that trusts this machine, and what it hands over.
type balancer struct {
	*ProxyProtocol
	opened  chan net.Conn
	results chan string
}

func newBalancer(change func(*ProxyProtocol)) *balancer {
	b := &balancer{opened: make(chan net.Conn, 1), results: make(chan string, 1)}
	b.ProxyProtocol = &ProxyProtocol{Trusted: loopback(), OnResult: func(result string) { b.results <- result }}
	if change != nil {
		change(b.ProxyProtocol)
	}
	return b
}

// send connects and sends pieces, each in a packet of its own.
func (b *balancer) send(t *testing.T, pieces ...string) (client *net.TCPConn) {
	t.Helper()
	near, server := pair(t)
	client = near.(*net.TCPConn)
	b.Before(func(c net.Conn) { b.opened <- c })(server)
	for _, piece := range pieces {
		if _, err := io.WriteString(client, piece); err != nil {
			t.Fatal(err)
		}
	}
	return client
}

func header(t *testing.T, version byte, client string) string {
	t.Helper()
	source := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client))
	text, err := proxyproto.HeaderProxyFromAddrs(version, source, &net.TCPAddr{IP: source.IP, Port: 443}).Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheClientOfALoadBalancerIsWhomItSays(t *testing.T) {
	for _, client := range []string{"203.0.113.7:4711", "[2001:db8::7]:4711"} {
		for _, version := range []byte{1, 2} {
			b := newBalancer(nil)
			head := header(t, version, client)
			far := b.send(t, head[:3], head[3:9], head[9:]+"GET ", "/")
			_ = far.CloseWrite()
			c := <-b.opened
			if c.RemoteAddr().String() != client || <-b.results != "ok" {
				t.Errorf("version %d: the client is %s", version, c.RemoteAddr())
			}
			if rest, err := io.ReadAll(c); err != nil || string(rest) != "GET /" {
				t.Errorf("version %d: what follows is %q, %v", version, rest, err)
			}
			_ = c.Close()
		}
	}
}

func TestWhatFollowsAHeaderStaysInTheKernelAndTheConnectionCanDoWhatTCPCan(t *testing.T) {
	b := newBalancer(nil)
	far := b.send(t, header(t, 2, "203.0.113.7:4711")+"GET ")
	c := <-b.opened
	if n := waiting(t, c); n != len("GET ") {
		t.Errorf("%d bytes wait in the kernel", n)
	}
	if _, ok := c.(io.ReaderFrom); !ok {
		t.Error("the kernel cannot copy to it")
	}
	if err := closeWrite(c); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(far); err != nil {
		t.Error(err)
	}
	_ = c.Close()
}

func TestAConnectionOfTheBalancersOwnKeepsItsAddress(t *testing.T) {
	local := "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	for _, head := range []string{local, "PROXY UNKNOWN\r\n"} {
		b := newBalancer(nil)
		far := b.send(t, head)
		if c := <-b.opened; c.RemoteAddr().String() != far.LocalAddr().String() || <-b.results != "own" {
			t.Errorf("%q: the client is %s", head, c.RemoteAddr())
		}
	}
}

func TestWithoutAHeaderATrustedPeerIsRefusedOrAcceptedAsTheSettingSays(t *testing.T) {
	b := newBalancer(nil)
	far := b.send(t, "GET / HTTP/1.1\r\n\r\n")
	if _, err := io.ReadAll(far); <-b.results != "missing" || len(b.opened) > 0 {
		t.Errorf("it was not refused: %v", err)
	}
	b = newBalancer(func(p *ProxyProtocol) { p.Optional = true })
	far = b.send(t, "GET /")
	c := <-b.opened
	expect(t, c, "GET /")
	if c.RemoteAddr().String() != far.LocalAddr().String() || <-b.results != "none" {
		t.Errorf("the client is %s", c.RemoteAddr())
	}
}

func TestStrangersAreNotBelieved(t *testing.T) {
	b := newBalancer(func(p *ProxyProtocol) { p.Trusted = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	head := header(t, 1, "203.0.113.7:4711")
	far := b.send(t, head)
	c := <-b.opened
	expect(t, c, head)
	if _, plain := c.(*net.TCPConn); !plain || c.RemoteAddr().String() != far.LocalAddr().String() {
		t.Errorf("the client is %s", c.RemoteAddr())
	}
}

func TestAHeaderThatIsNoneEndsTheConnection(t *testing.T) {
	long := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"
	for head, want := range map[string]string{
		"PROXY TCP4 nonsense\r\n": "malformed", "PROXY TCP4 " + string(make([]byte, 120)): "malformed", long: "malformed",
		"\r\n\r\n\x00\r\nQUIT\n\x41\x11\x00\x00": "malformed",
	} {
		b := newBalancer(nil)
		far := b.send(t, head)
		if got := <-b.results; got != want {
			t.Errorf("%q is %s", head, got)
		}
		if _, err := far.Read(make([]byte, 1)); err == nil {
			t.Errorf("%q is answered", head)
		}
	}
}

func TestAHeaderMustBeThereInTime(t *testing.T) {
	b := newBalancer(func(p *ProxyProtocol) { p.Timeout = 50 * time.Millisecond })
	b.send(t, "PROXY TCP4")
	if got := <-b.results; got != "timeout" {
		t.Error(got)
	}
	if err := b.Wait(t.Context()); err != nil || b.Pending() > 0 {
		t.Errorf("%v, %d are under way", err, b.Pending())
	}
}

func TestAPeerThatOnlyLooksWhetherSomebodyListensIsNoError(t *testing.T) {
	b := newBalancer(nil)
	_ = b.send(t).Close()
	if got := <-b.results; got != "failed" {
		t.Error(got)
	}
}

func TestAHandshakeFollowsTheHeader(t *testing.T) {
	streams := make(chan Stream, 1)
	h := passing(t, streams)
	clients := make(chan netip.Addr, 1)
	route := h.Route
	h.Route = func(name string, protocols []string, client netip.Addr) (Destination, bool) {
		clients <- client
		return route(name, protocols, client)
	}
	near, server := pair(t)
	(&ProxyProtocol{Trusted: loopback()}).Before(h.Handle)(server)
	if _, err := io.WriteString(near, header(t, 2, "203.0.113.7:4711")); err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(near, &tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := <-h.Sinks[""].(sink).conns
	if client := <-clients; client.String() != "203.0.113.7" || got.RemoteAddr().String() != "203.0.113.7:4711" {
		t.Errorf("the client is %s, then %s", client, got.RemoteAddr())
	}
	if n := waiting(t, got.(*tls.Conn).NetConn()); n != 0 {
		t.Errorf("%d bytes wait", n)
	}
	if _, err := secure.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for waiting(t, got.(*tls.Conn).NetConn()) == 0 { // what the frontend asks before it closes an idle connection
	}
	_ = got.Close()
}

// waiting asks the kernel how many bytes wait on a connection.
func waiting(t *testing.T, c net.Conn) (n int) {
	t.Helper()
	socket, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := socket.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func FuzzAProxyHeaderIsReadToItsEndAndNoFurther(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /", "PROXY UNKNOWN\r\n", "PROXY", "P", "", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00x",
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x00\x01\x00\x02rest", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "POST / HTTP/1.1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		in = in[:min(len(in), maxProxyHeader)]
		size, known := proxyHeaderSize(in)
		if !known || size > len(in) {
			return
		}
		from := bufio.NewReader(bytes.NewReader(in))
		header, err := proxyproto.Read(from)
		if size == 0 {
			if header != nil {
				t.Fatalf("%q is a header", in)
			}
			return
		}
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(from)
		if len(in)-len(rest) != size {
			t.Errorf("the header of %q has %d bytes, not %d", in, len(in)-len(rest), size)
		}
	})
}
