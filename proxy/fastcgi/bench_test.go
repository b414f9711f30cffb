package fastcgi

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// BenchmarkRequest measures a request as a browser makes it, to an application that does nothing, over a unix socket.
func BenchmarkRequest(b *testing.B) {
	b.Run("GET kept", func(b *testing.B) { benchmark(b, 16, "") })
	b.Run("POST kept", func(b *testing.B) { benchmark(b, 16, strings.Repeat("x", 1000)) })
	b.Run("GET not kept", func(b *testing.B) { benchmark(b, 0, "") })
}

func benchmark(b *testing.B, keep int, body string) {
	l := idleApplication(b)
	transport, err := New(Config{Network: "unix", Address: l, Root: "/srv/www", Front: "/index.php", MaxIdle: keep})
	if err != nil {
		b.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		if err := once(b, transport, body); err != nil {
			b.Fatal(err)
		}
	}
}

func once(b *testing.B, transport *Transport, body string) error {
	method, reader := http.MethodGet, io.Reader(nil)
	if body != "" {
		method, reader = http.MethodPost, strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(b.Context(), method, "http://shop.example/blog/a-post?id=7", reader)
	if err != nil {
		return err
	}
	r.RemoteAddr = "192.0.2.7:4711"
	r.Header = http.Header{
		"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}, "Accept": {"text/html,application/xhtml+xml"},
		"Accept-Language": {"en-US,en;q=0.5"}, "Accept-Encoding": {"gzip, deflate, br"}, "Cookie": {"session=0123456789abcdef0123456789abcdef"},
		"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "X-Request-Id": {"0123456789abcdef0123456789abcdef"},
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// idleApplication answers all requests with the same 1,000 bytes, hardly looking at them.
func idleApplication(b *testing.B) string {
	l := listen(b, "unix")
	answer := append(record(typeStdout, "Content-Type: text/html\r\n\r\n"+strings.Repeat("x", 1000)), ended(0, 0)...)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				p := newPeer(c)
				for {
					kind, content, err := p.record()
					if err != nil {
						return
					}
					if kind == typeStdin && len(content) == 0 {
						_, _ = c.Write(answer)
					}
				}
			})
		}
	})
	b.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}
