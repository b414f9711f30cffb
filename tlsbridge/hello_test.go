package tlsbridge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// helloOf returns the records that a client begins with.
func helloOf(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	client, server := net.Pipe()
	go func() {
		_ = tls.Client(client, config).HandshakeContext(t.Context()) // which fails
		_ = client.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	record := append(head, make([]byte, int(head[3])<<8|int(head[4]))...)
	if _, err := io.ReadFull(server, record[5:]); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	return record
}

// inRecordsOf spreads the handshake message of a record over many.
func inRecordsOf(size int, record []byte) (records []byte) {
	for piece := range slices.Chunk(record[5:], size) {
		records = append(records, record[0], record[1], record[2], byte(len(piece)>>8), byte(len(piece)))
		records = append(records, piece...)
	}
	return records
}

// passing is a Handshaker that passes the host b.test on.
func passing(t testing.TB, streams chan Stream) *Handshaker {
	return &Handshaker{
		Config: testConfig(t),
		Sinks:  map[string]Sink{"": newSink()},
		Route: func(name string, protocols []string, client netip.Addr) (Destination, bool) {
			return Destination{Address: client.String() + ":1"}, name == "b.test" && !slices.Contains(protocols, "other")
		},
		Pass: func(s Stream) { streams <- s },
	}
}

func TestAConnectionIsPassedOnWithAllThatTheClientHasSentAndWithoutAnAnswer(t *testing.T) {
	hello := helloOf(t, &tls.Config{ServerName: "b.test", NextProtos: []string{"h2"}})
	for _, size := range []int{1, 2, 3, 4, 5, 100, 16 << 10} {
		streams := make(chan Stream, 1)
		h := passing(t, streams)
		client, server := pair(t)
		h.Handle(server)
		sent := append(inRecordsOf(size, hello), "early data"...)
		go func() {
			for piece := range slices.Chunk(sent, 7) {
				_, _ = client.Write(piece)
			}
			_ = client.(*net.TCPConn).CloseWrite()
		}()
		s := <-streams
		rest, err := io.ReadAll(s.Conn)
		if err != nil || !bytes.Equal(append(s.Sent, rest...), sent) {
			t.Errorf("records of %d bytes: what was sent is not what goes on: %v", size, err)
		}
		if s.ServerName != "b.test" || s.To.Address != "127.0.0.1:1" || s.Conn != server {
			t.Errorf("%q goes to %q", s.ServerName, s.To.Address)
		}
		_ = s.Conn.Close()
		if answer, err := io.ReadAll(client); err != nil || len(answer) > 0 {
			t.Errorf("the client was told %x, %v", answer, err)
		}
	}
}

func TestOthersAreServedHereThoughEachOfTheirBytesComesAlone(t *testing.T) {
	h := passing(t, nil)
	client, server := pair(t)
	h.Handle(slow{server})
	secure := tls.Client(client, &tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := <-h.Sinks[""].(sink).conns
	if _, err := got.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(secure, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	_ = got.Close()
}

// slow gives a byte at a time.
type slow struct{ net.Conn }

func (c slow) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(1, len(b))]) }

func TestWhatIsTooLongForAHelloIsNotKept(t *testing.T) {
	h := &Handshaker{Route: func(string, []string, netip.Addr) (Destination, bool) { return Destination{}, true }}
	o := h.newOpening(&script{in: make([]byte, 70<<10)})
	if _, err := io.Copy(io.Discard, o); err != nil || o.kept != nil || o.keeping {
		t.Errorf("%d bytes are kept, %v", len(o.kept), err)
	}
	if err := o.decide(&tls.ClientHelloInfo{ServerName: "b.test"}); err != nil {
		t.Errorf("it was passed on without its beginning: %v", err)
	}
}

func TestAClientThatSaysNothingIsCutAfterFiveSecondsAlsoWhereItMightBePassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		results := make(chan string, 1)
		h := &Handshaker{
			Config: &tls.Config{GetConfigForClient: HelloArrived}, OnResult: func(result string) { results <- result },
			Route: func(string, []string, netip.Addr) (Destination, bool) { return Destination{}, true },
		}
		began := time.Now()
		h.Handle(server)
		if result := <-results; result != "timeout" || time.Since(began) != 5*time.Second {
			t.Errorf("%s after %v", result, time.Since(began))
		}
		_ = client.Close()
		if err := h.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// script is a connection whose other end says its part, in pieces, and then ends.
type script struct {
	in     []byte
	pieces int
	out    bytes.Buffer
}

func (s *script) Read(b []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := len(s.in)
	if s.pieces > 0 {
		n = min(n, s.pieces)
	}
	n = copy(b, s.in[:n])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error) { return s.out.Write(b) }
func (s *script) Close() error                { return nil }
func (s *script) LocalAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }

func (s *script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000} }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// play hands the client's bytes to a Handshaker and returns what it was told, and the stream that was passed on, if any.
func play(config *tls.Config, route Route, in []byte, pieces int) (answer []byte, passed *Stream, rest []byte) {
	c := &script{in: in, pieces: pieces}
	h := &Handshaker{Config: config, Sinks: map[string]Sink{"": closing{}}, Route: route, Pass: func(s Stream) { passed = &s }}
	h.handshake(c) // in this goroutine: to the fuzzer, what goes on elsewhere looks like chance
	return c.out.Bytes(), passed, c.in
}

type closing struct{}

func (closing) ServeConn(c net.Conn) { _ = c.Close() }

// silent ends every handshake with an error as soon as the hello is there: what comes then depends on chance.
func silent() *tls.Config {
	return &tls.Config{
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if _, err := HelloArrived(hello); err != nil {
				return nil, err
			}
			return nil, errors.New("enough")
		},
	}
}

func FuzzOpeningChangesNoByteThatEitherSideSees(f *testing.F) {
	hello := helloOf(f, &tls.Config{ServerName: "b.test"})
	for _, seed := range [][]byte{
		hello, inRecordsOf(1, hello), inRecordsOf(300, hello), helloOf(f, &tls.Config{ServerName: "a.test"}),
		helloOf(f, &tls.Config{InsecureSkipVerify: true}), hello[:40], append(slices.Clone(hello), hello...),
		[]byte("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
		{},
		{22},
		{22, 3, 1, 255, 255, 1},
		{21, 3, 1, 0, 2, 1, 0},
		{0x80, 46, 1, 3, 1},
		{22, 3, 1, 0, 4, 1, 255, 255, 255},
		{22, 3, 1, 0, 0},
		[]byte("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
	} {
		f.Add(seed, 0)
		f.Add(seed, 3)
	}
	everything := func(string, []string, netip.Addr) (Destination, bool) { return Destination{}, true }
	nothing := func(string, []string, netip.Addr) (Destination, bool) { return Destination{}, false }
	f.Fuzz(func(t *testing.T, in []byte, pieces int) {
		bare, _, _ := play(silent(), nil, in, pieces)
		served, _, _ := play(silent(), nothing, in, pieces)
		if !bytes.Equal(bare, served) {
			t.Errorf("crypto/tls alone says %x, here it says %x", bare, served)
		}
		answer, passed, rest := play(silent(), everything, in, pieces)
		if passed == nil {
			if !bytes.Equal(answer, bare) {
				t.Errorf("what is no hello is told %x, by crypto/tls alone %x", answer, bare)
			}
			return
		}
		if len(answer) > 0 || !bytes.Equal(append(passed.Sent, rest...), in) {
			t.Errorf("the client was told %x; %d of %d bytes go on", answer, len(passed.Sent)+len(rest), len(in))
		}
	})
}

// BenchmarkHandshake compares a handshake without a Route and with one that passes nothing on.
func BenchmarkHandshake(b *testing.B) {
	config := testConfig(b)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	for name, route := range map[string]Route{
		"without a route": nil,
		"with a route":    func(string, []string, netip.Addr) (Destination, bool) { return Destination{}, false },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			h := &Handshaker{Config: config, Sinks: map[string]Sink{"": closing{}}, Route: route}
			for b.Loop() {
				client, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				server, err := listener.Accept()
				if err != nil {
					b.Fatal(err)
				}
				h.Handle(server)
				if err := tls.Client(client, &tls.Config{ServerName: "a.test", InsecureSkipVerify: true}).Handshake(); err != nil {
					b.Fatal(err)
				}
				_ = client.Close()
			}
			if err := h.Wait(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}
