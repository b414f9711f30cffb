package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// speaker is a target that says how it was asked, on a socket or on TCP, with HTTP/1.1 and HTTP/2 in clear text.
func speaker(t *testing.T, network string) (address string, connections *atomic.Int64) {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		at = filepath.Join(t.TempDir(), "app.sock")
	}
	listener, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				w.WriteHeader(http.StatusHTTPVersionNotSupported)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhello")
			_ = c.Close()
			return
		}
		w.Header().Set("Trailer", "Grpc-Status")
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %s", r.Proto, r.Host, r.URL.Path, body)
		w.Header().Set("Grpc-Status", r.Trailer.Get("Checksum")+"0")
	}))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return listener.Addr().String(), connections
}

func TestATargetIsAskedInItsProtocolWhereItListens(t *testing.T) {
	tcp, _ := speaker(t, "tcp")
	unix, _ := speaker(t, "unix")
	for url, protocol := range map[string]string{
		"http://" + tcp: "HTTP/1.1", "h2c://" + tcp: "HTTP/2.0", "unix:" + unix: "HTTP/1.1", "h2c+unix:" + unix: "HTTP/2.0",
	} {
		p := newSet(t, Options{}).For(upstreamOf(url))
		for range 2 {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "/path", struct{ io.Reader }{strings.NewReader("body")})
			r.Host = "shop.test"
			r.Trailer = http.Header{"Checksum": {"1"}}
			response, err := p.RoundTrip(r)
			if err != nil {
				t.Errorf("%s: %v", url, err)
				continue
			}
			text, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if want := protocol + " shop.test /path body"; err != nil || string(text) != want {
				t.Errorf("%s: %q, %v", url, text, err)
			}
			if got := response.Trailer.Get("Grpc-Status"); got != "10" {
				t.Errorf("%s: the trailer is %q", url, got)
			}
		}
	}
}

func TestRequestsShareAConnectionOfHTTP2(t *testing.T) {
	address, connections := speaker(t, "tcp")
	p := newSet(t, Options{}).For(upstreamOf("h2c://" + address))
	for n := range 20 {
		if _, err := do(t.Context(), t, p, []string{http.MethodGet, http.MethodPost}[n%2], ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := connections.Load(); n > 3 { // net/http may make some before the first is known to be one that can be shared
		t.Errorf("%d connections", n)
	}
}

func TestWhatWantsToLeaveHTTPGoesToAnHTTP2TargetAsHTTP1(t *testing.T) {
	address, _ := speaker(t, "unix")
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
	response, err := newSet(t, Options{}).For(upstreamOf("h2c+unix:" + address)).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if text, err := io.ReadAll(bufio.NewReader(response.Body)); response.StatusCode != http.StatusSwitchingProtocols || string(text) != "hello" {
		t.Errorf("%s %q, %v", response.Status, text, err)
	}
}

func TestASocketThatIsNotThereYetIsFoundLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "late.sock")
	good, _ := speaker(t, "unix")
	set := runSet(t, Options{})
	p := set.For(upstreamOf("unix:"+path, "unix:"+good))
	for !p.targets[0].fails() {
		if _, err := do(t.Context(), t, p, http.MethodPost, "x"); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	eventually(t, "it to be found", func() bool { return !p.targets[0].fails() })
}
