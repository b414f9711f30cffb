package frontend

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// memoryServer is the environment variable that makes a test process a server whose memory can be asked for.
const memoryServer = "CUTOVER_TEST_MEMORY_SERVER"

// TestServingForTheMemoryBenchmark is no test by itself: the benchmark starts it in a process of its own, so that the
// clients' memory is not counted.
func TestServingForTheMemoryBenchmark(t *testing.T) {
	if os.Getenv(memoryServer) == "" {
		return
	}
	s := newSite(t)
	server := s.serve(t, Options{ReadHeaderTimeout: time.Hour, IdleTimeout: time.Hour, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})})
	_, _ = fmt.Fprintln(os.Stdout, "ports", s.plain.Addr(), s.secure.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		debug.FreeOSMemory() // twice: pools give what they hold to the second
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_, _ = fmt.Fprintln(os.Stdout, "memory", server.Stats().Open, m.HeapInuse+m.StackInuse)
	}
}

// measured is the process that is measured.
type measured struct {
	b             *testing.B
	in            io.Writer
	out           *bufio.Scanner
	plain, secure string
}

func startMeasured(b *testing.B) *measured {
	b.Helper()
	command := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestServingForTheMemoryBenchmark$")
	command.Env = append(os.Environ(), memoryServer+"=1")
	in, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	m := &measured{b: b, in: in, out: bufio.NewScanner(out)}
	b.Cleanup(func() { _ = in.Close(); _ = command.Wait() })
	m.line("ports %s %s", &m.plain, &m.secure)
	return m
}

func (m *measured) line(format string, into ...any) {
	for m.out.Scan() {
		if n, _ := fmt.Sscanf(m.out.Text(), format, into...); n == len(into) {
			return
		}
	}
	m.b.Fatal("the server has gone")
}

// memory waits until so many connections are open, and returns what they and the rest take.
func (m *measured) memory(want int) (bytes uint64) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for range 500 {
		open := 0
		_, _ = io.WriteString(m.in, "?\n")
		m.line("memory %d %d", &open, &bytes)
		if open == want {
			return bytes
		}
		<-ticker.C
	}
	m.b.Fatal("not all connections are open")
	return 0
}

// open opens a connection, in clear text where no protocol is named, and leaves it in a state.
func (m *measured) open(protocol string, prepare func(net.Conn) error) (c net.Conn, err error) {
	if protocol == "" {
		c, err = net.Dial("tcp", m.plain)
	} else {
		c, err = tls.Dial("tcp", m.secure, &tls.Config{InsecureSkipVerify: true, ServerName: "shop.example.com", NextProtos: []string{protocol}})
	}
	if err != nil {
		return nil, err
	}
	return c, prepare(c)
}

// answered sends a request and reads its answer.
func answered(c net.Conn, request string) error {
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// begun sends HTTP/2's preface and some frames.
func begun(c net.Conn, frames ...[]byte) error {
	var text bytes.Buffer
	text.WriteString(http2.ClientPreface)
	_ = http2.NewFramer(&text, nil).WriteSettings()
	for _, frame := range frames {
		text.Write(frame)
	}
	_, err := c.Write(text.Bytes())
	return err
}

func headers(end bool, size int) []byte {
	var text bytes.Buffer
	_ = http2.NewFramer(&text, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("/"), EndHeaders: true, EndStream: end})
	return text.Bytes()[:min(size, text.Len())]
}

// BenchmarkMemoryOfAConnection says how many bytes of heap and stacks a connection takes in each state that a client can
// leave it in.
func BenchmarkMemoryOfAConnection(b *testing.B) {
	const request = "GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n"
	const half = "GET / HTTP/1.1\r\nHost: shop.example.com\r\nX-Slow: "
	long := half + strings.Repeat("x", 60<<10)
	send := func(text string) func(net.Conn) error {
		return func(c net.Conn) error { _, err := io.WriteString(c, text); return err }
	}
	for _, row := range []struct {
		name     string
		protocol string // "" for clear text
		prepare  func(net.Conn) error
	}{
		{"http1-silent", "", send("")},
		{"http1-half-a-head", "", send(half)},
		{"http1-60KiB-of-a-head", "", send(long)},
		{"http1-resting", "", func(c net.Conn) error { return answered(c, request) }},
		{"http1-slow-body", "", send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nsome")},
		{"tls-silent", "http/1.1", send("")},
		{"tls-half-a-head", "http/1.1", send(half)},
		{"tls-60KiB-of-a-head", "http/1.1", send(long)},
		{"tls-resting", "http/1.1", func(c net.Conn) error { return answered(c, request) }},
		{"http2-silent", "h2", send("")},
		{"http2-no-request", "h2", func(c net.Conn) error { return begun(c) }},
		{"http2-half-a-frame", "h2", func(c net.Conn) error { return begun(c, headers(true, 20)) }},
		{"http2-slow-body", "h2", func(c net.Conn) error { return begun(c, headers(false, 1000)) }},
		{"http2-after-a-request", "h2", func(c net.Conn) error { return begun(c, headers(true, 1000)) }},
	} {
		b.Run(row.name, func(b *testing.B) {
			const count = 300
			m := startMeasured(b)
			before := m.memory(0)
			conns := make([]net.Conn, count)
			var opening sync.WaitGroup
			for worker := range 4 {
				opening.Go(func() {
					for i := worker; i < count; i += 4 {
						c, err := m.open(row.protocol, row.prepare)
						if err != nil {
							b.Error(err)
							return
						}
						conns[i] = c
					}
				})
			}
			opening.Wait()
			m.memory(count)
			each := float64(m.memory(count)-before) / count
			b.ResetTimer()
			b.ReportMetric(each, "bytes/connection")
			for _, c := range conns {
				if c != nil {
					_ = c.Close()
				}
			}
		})
	}
}
