package tlsbridge

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/goleak"
)

// carried is a stream under way: a client, and the target's end.
type carried struct {
	client, target *net.TCPConn
	results        chan string
	done           chan struct{} // closed when Carry has returned
}

// carry passes a stream on. wrap may change what the Passthrough sees of the client's connection.
func carry(t *testing.T, s Stream, wrap func(*net.TCPConn) net.Conn) *carried {
	t.Helper()
	return carryBy(t, &Passthrough{}, s, wrap)
}

func carryBy(t *testing.T, p *Passthrough, s Stream, wrap func(*net.TCPConn) net.Conn) *carried {
	t.Helper()
	listener := listen(t)
	client, server := pair(t)
	c := &carried{client: client.(*net.TCPConn), results: make(chan string, 2), done: make(chan struct{})}
	s.Conn, s.To.Address = server, listener.Addr().String()
	if wrap != nil {
		s.Conn = wrap(server.(*net.TCPConn))
	}
	p.OnResult = func(result string) { c.results <- result }
	go func() {
		defer close(c.done)
		p.Carry(s)
	}()
	target, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.target = target.(*net.TCPConn)
	t.Cleanup(func() { _ = c.target.Close() })
	return c
}

func (c *carried) end() {
	_, _ = c.client.Close(), c.target.Close()
	<-c.done
}

func expect(t *testing.T, from io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(from, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

func TestAStreamGoesBothWaysAndEndsHalfByHalf(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := carry(t, Stream{Sent: []byte("hello, ")}, nil)
	_, _ = c.client.Write([]byte("you"))
	_ = c.client.CloseWrite()
	if got, err := io.ReadAll(c.target); err != nil || string(got) != "hello, you" {
		t.Errorf("the target got %q, %v", got, err)
	}
	_, _ = c.target.Write([]byte("and goodbye"))
	_ = c.target.CloseWrite()
	if got, err := io.ReadAll(c.client); err != nil || string(got) != "and goodbye" {
		t.Errorf("the client got %q, %v", got, err)
	}
	<-c.done
	if result := <-c.results; result != "passed" {
		t.Error(result)
	}
}

func TestTheTargetMayEndFirst(t *testing.T) {
	c := carry(t, Stream{Sent: []byte("x")}, nil)
	_ = c.target.CloseWrite()
	if _, err := c.client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client got %v", err)
	}
	expect(t, c.target, "x")
	_, _ = c.client.Write([]byte("still here"))
	expect(t, c.target, "still here")
	c.end()
}

func TestWhoeverClosesTheConnectionEndsTheStream(t *testing.T) {
	var server *net.TCPConn
	c := carry(t, Stream{Sent: []byte("x")}, func(conn *net.TCPConn) net.Conn { server = conn; return conn })
	expect(t, c.target, "x")
	_ = server.Close()
	<-c.done
	if _, err := io.ReadAll(c.target); err != nil {
		t.Errorf("the target: %v", err)
	}
}

// neverIdle is longer than any test takes.
const neverIdle = time.Hour

func TestAStreamThatHasEndedOneWayDoesNotStayOpenForEver(t *testing.T) {
	for name, end := range map[string]func(*carried) error{
		"the client": func(c *carried) error { return c.client.CloseWrite() },
		"the target": func(c *carried) error { return c.target.CloseWrite() },
	} {
		c := carryBy(t, &Passthrough{Stall: 50 * time.Millisecond, Idle: neverIdle}, Stream{Sent: []byte("x")}, nil)
		expect(t, c.target, "x")
		if err := end(c); err != nil {
			t.Fatal(err)
		}
		<-c.done
		if first, second := <-c.results, <-c.results; first != "passed" || second != "half_open" {
			t.Errorf("where %s has ended: %s, %s", name, first, second)
		}
		c.end()
	}
}

func TestAStreamOnWhichNothingMovesIsEnded(t *testing.T) {
	c := carryBy(t, &Passthrough{Idle: 50 * time.Millisecond, Stall: neverIdle}, Stream{Sent: []byte("x")}, nil)
	expect(t, c.target, "x")
	<-c.done
	if first, second := <-c.results, <-c.results; first != "passed" || second != "idle" {
		t.Error(first, second)
	}
	if _, err := c.client.Read(make([]byte, 1)); err == nil {
		t.Error("the client's connection is open")
	}
	c.end()
}

func TestWhoTakesNothingOfAStreamDoesNotKeepItOpen(t *testing.T) {
	c := carryBy(t, &Passthrough{Idle: 100 * time.Millisecond}, Stream{Sent: []byte("x")}, nil)
	block := make([]byte, 1<<20)
	for {
		if _, err := c.client.Write(block); err != nil { // the target reads nothing: at some time nothing more goes in
			break
		}
	}
	<-c.done
	c.end()
}

func TestTheWatchOverAStreamAsksForMovementAloneNotForAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Passthrough{Idle: time.Hour, Stall: time.Minute}
		moved, ended := atomic.Uint64{}, make(chan struct{}, 2)
		began, result := time.Now(), make(chan string, 1)
		go func() { result <- p.watch(ended, moved.Load) }()
		for range 10 {
			time.Sleep(50 * time.Minute)
			moved.Add(1)
		}
		ended <- struct{}{}
		for range 10 {
			time.Sleep(50 * time.Second)
			moved.Add(1)
		}
		moving := time.Since(began)
		if got, left := <-result, time.Since(began)-moving; got != "half_open" || left < time.Minute || left > 75*time.Second {
			t.Errorf("%q, %v after the last byte", got, left)
		}
	})
}

func TestAStreamThatHasEndedBothWaysIsNotWatchedAnyMore(t *testing.T) {
	ended := make(chan struct{}, 2)
	ended <- struct{}{}
	ended <- struct{}{}
	if got := (&Passthrough{}).watch(ended, func() uint64 { return 0 }); got != "" {
		t.Error(got)
	}
}

func TestWhatTheKernelCarriesCountsAsMovement(t *testing.T) {
	c := carry(t, Stream{Sent: []byte("x")}, nil)
	expect(t, c.target, "x")
	before := carriedBy(c.client) + carriedBy(c.target)
	move(t, c.target, c.client, 1<<20)
	if after := carriedBy(c.client) + carriedBy(c.target); after-before < 1<<20 {
		t.Errorf("%d bytes are seen of %d", after-before, 1<<20)
	}
	c.end()
}

// What the kernel copies from socket to socket is no read of this process.
func TestTheKernelDoesTheCopying(t *testing.T) {
	const size = 64 << 20
	for name, wrap := range map[string]func(*net.TCPConn) net.Conn{
		"from a client":        nil,
		"from a load balancer": func(c *net.TCPConn) net.Conn { return &brought{c, &net.TCPAddr{}} },
	} {
		c := carry(t, Stream{Sent: []byte("x")}, wrap)
		expect(t, c.target, "x")
		before := readByThisProcess(t)
		move(t, c.target, c.client, size)
		move(t, c.client, c.target, size)
		if read := readByThisProcess(t) - before; read < 2*size || read > 2*size+size/4 {
			t.Errorf("%s: for 2 × %d bytes %d were read: those that the two ends read, and no more, were to be", name, size, read)
		}
		c.end()
	}
}

func move(t *testing.T, to, from *net.TCPConn, size int64) {
	t.Helper()
	var writing sync.WaitGroup
	writing.Go(func() {
		block := make([]byte, 1<<20)
		for sent := int64(0); sent < size; sent += int64(len(block)) {
			if _, err := from.Write(block); err != nil {
				t.Error(err)
				return
			}
		}
	})
	buffer := make([]byte, 1<<20)
	for got := int64(0); got < size; {
		n, err := to.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		got += int64(n)
	}
	writing.Wait()
}

func readByThisProcess(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	n, err := strconv.ParseInt(strings.TrimPrefix(line, "rchar: "), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestATargetThatCannotBeReachedEndsTheConnectionAndIsLogged(t *testing.T) {
	listener := listen(t)
	_ = listener.Close()
	for address, want := range map[string]string{listener.Addr().String(): "dial", "": "no_target"} {
		client, server := pair(t)
		var log bytes.Buffer
		result := ""
		p := &Passthrough{Log: slog.New(slog.NewTextHandler(&log, nil)), OnResult: func(r string) { result = r }}
		p.Carry(Stream{Conn: server, ServerName: "shop.test", To: Destination{Address: address}})
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || result != want {
			t.Errorf("the client got %v, the result is %q, want %q", err, result, want)
		}
		for _, part := range []string{"host=shop.test", "target=" + address, "reason=" + want, "error="} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("%q is not in %s", part, log.String())
			}
		}
	}
}

// How often it comes back before it is found out, and who says so first, is a matter of who is quicker.
func TestATargetThatLeadsBackHereIsFoundOut(t *testing.T) {
	listener := listen(t)
	var mu sync.Mutex
	results := map[string]int{}
	p := &Passthrough{OnResult: func(result string) {
		mu.Lock()
		defer mu.Unlock()
		results[result]++
	}}
	var carrying sync.WaitGroup
	carrying.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			carrying.Go(func() {
				p.Carry(Stream{Conn: c, Sent: []byte("x"), To: Destination{Address: listener.Addr().String()}})
			})
		}
	})
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = client.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadAll(client); err != nil && isTimeout(err) {
		t.Error(err)
	}
	_, _ = client.Close(), listener.Close()
	carrying.Wait()
	if results["loop"] == 0 || results["passed"] == 0 {
		t.Error(results)
	}
}

func TestTheTargetIsToldWhoTheClientIs(t *testing.T) {
	for version, number := range map[string]byte{ProxyHeaderV1: 1, ProxyHeaderV2: 2} {
		client := &net.TCPAddr{IP: net.ParseIP("203.0.113.7"), Port: 4711}
		c := carry(t, Stream{Sent: []byte("x"), To: Destination{ProxyHeader: version}}, func(c *net.TCPConn) net.Conn { return &brought{c, client} })
		from := bufio.NewReader(c.target)
		header, err := proxyproto.Read(from)
		if err != nil {
			t.Fatal(err)
		}
		if header.Version != number || header.SourceAddr.String() != client.String() {
			t.Errorf("%s: version %d, client %s", version, header.Version, header.SourceAddr)
		}
		expect(t, from, "x")
		c.end()
	}
}

func TestAClientOfIPv6IsNamedToATargetOfIPv4(t *testing.T) {
	for _, version := range []string{ProxyHeaderV1, ProxyHeaderV2} {
		client, here := &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 1}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}
		text, err := proxyHeader(version, client, here)
		if err != nil {
			t.Fatal(err)
		}
		header, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(text)))
		if err != nil || header.SourceAddr.String() != client.String() {
			t.Errorf("%s: %v, %v", version, header, err)
		}
	}
	if _, err := proxyHeader("v3", nil, nil); err == nil {
		t.Error("v3 is taken for a version")
	}
}
