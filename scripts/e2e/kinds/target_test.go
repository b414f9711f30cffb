package kinds

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"cutover/scripts/e2e/restarts/wire"
)

// target does what the tests ask for.
type target struct {
	release chan struct{} // lets the next event go
}

func newTarget() *target { return &target{make(chan struct{})} }

func (s *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		echo(w, r)
	case "/events":
		s.events(w, r)
	case "/socket":
		socket(w, r)
	case "/hints":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, "hinted")
	case "/read":
		text, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s%v", text, err)
	case "/refuse":
		_ = http.NewResponseController(w).EnableFullDuplex() // net/http would wait for the body
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // which it does without a word, since the body is not read
		}
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	case "/seen":
		w.Header().Set("X-Proto", r.Proto)
		fmt.Fprintf(w, "%s %s%s by %s", r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-Forwarded-Proto"))
	default:
		http.NotFound(w, r)
	}
}

// echo sends back what comes as it comes, and at last its sum in a trailer.
func echo(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // HTTP/2 always is
	w.Header().Set("Trailer", "X-Sum")
	w.WriteHeader(http.StatusOK)
	_ = control.Flush()
	sum, buffer := sha256.New(), make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buffer)
		sum.Write(buffer[:n])
		if _, wrong := w.Write(buffer[:n]); wrong != nil || control.Flush() != nil {
			return
		}
		if err == io.EOF {
			w.Header().Set("X-Sum", hex.EncodeToString(sum.Sum(nil))+" "+r.Trailer.Get("X-Sent"))
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// events sends an event each time that it may.
func (s *target) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	for n := range 3 {
		fmt.Fprintf(w, "data: %d\n\n", n)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-s.release:
		case <-r.Context().Done():
			return
		}
	}
}

// socket sends back every message until it is to close.
func socket(w http.ResponseWriter, r *http.Request) {
	conn, both, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		wire.Accept(r.Header.Get("Sec-WebSocket-Key")))
	for {
		opcode, payload, err := wire.ReadFrame(both.Reader)
		if err != nil || wire.WriteFrame(conn, opcode, payload, false) != nil || opcode == wire.Close {
			return
		}
	}
}

// serve runs a handler on a listener until the test ends.
func serve(t *testing.T, listener net.Listener, handler http.Handler, multiplexed bool) *httptest.Server {
	t.Helper()
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols)}}
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(multiplexed)
	t.Cleanup(server.Close)
	return server
}

// listen listens on a port, or on a socket of the file system.
func listen(t *testing.T, network string) (listener net.Listener, at string) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		folder, err := os.MkdirTemp("", "kind") // a test's own folder may have too long a name for a socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(folder) })
		address = filepath.Join(folder, "socket")
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return listener, listener.Addr().String()
}

// trustTarget makes a server's certificate one that the system of the edge trusts.
func trustTarget(e *edge, server *httptest.Server) error {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return os.WriteFile(filepath.Join(e.dir, "system.pem"), text, 0o600)
}

// webSocket makes a WebSocket to an address in clear text.
func webSocket(address, path string) (net.Conn, *bufio.Reader, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path, host)
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return conn, nil, err
	}
	if got, want := response.Header.Get("Sec-WebSocket-Accept"), wire.Accept("AAAAAAAAAAAAAAAAAAAAAA=="); response.StatusCode != http.StatusSwitchingProtocols || got != want {
		return conn, nil, fmt.Errorf("%s, Sec-WebSocket-Accept %q", response.Status, got)
	}
	return conn, reader, nil
}

// startBeside is start with an https target, whose certificate is put among those that the system trusts.
func startBeside(t *testing.T, server *httptest.Server, url string) *edge {
	t.Helper()
	e := &edge{t: t, dir: t.TempDir(), roots: x509.NewCertPool()}
	if err := trustTarget(e, server); err != nil {
		t.Fatal(err)
	}
	e.run(t)
	e.lead(t, url)
	return e
}
