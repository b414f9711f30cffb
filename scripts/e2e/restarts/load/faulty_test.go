package load

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cutover/scripts/e2e/restarts/wire"
)

// identity is a certificate for example.com, and the pool that trusts it.
func identity(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.TLS.Certificates[0], roots
}

// both lets work have the connections to http and, after the handshake, to https.
func both(t *testing.T, work func(net.Conn)) *Load {
	t.Helper()
	certificate, roots := identity(t)
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}}
	return loadFor(accept(t, nil, work), accept(t, config, work), roots)
}

// readRequest reads a request with its body; a client that expects 100 gets it.
func readRequest(conn net.Conn, reader *bufio.Reader) error {
	request, err := http.ReadRequest(reader)
	if err != nil {
		return err
	}
	if request.Header.Get("Expect") != "" {
		_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	_, err = io.Copy(io.Discard, request.Body)
	return err
}

func TestARequestThatIsReadAndNotAnsweredIsAFailureOfEveryHTTP1Client(t *testing.T) {
	for kind := range Kinds() {
		want := "before any answer"
		switch kind {
		case "h2 one stream", "h2 16 streams":
			continue // see below
		case "Expect":
			want = "in the answer" // after the 100
		case "SSE", "WebSocket", "download", "TLS download", "upload", "TLS upload":
			want = "closed"
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			expectFailure(t, both(t, func(conn net.Conn) { _ = readRequest(conn, bufio.NewReader(conn)) }), kind, want)
		})
	}
}

func TestAConnectionThatIsResetIsTold(t *testing.T) {
	l := both(t, func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_ = conn.(*net.TCPConn).SetLinger(0)
	})
	expectFailure(t, l, "h1 new", "reset before any answer")
}

func TestARefusedConnectionIsTold(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	expectFailure(t, loadFor(address, address, nil), "h1 new", "connect: refused")
	expectFailure(t, loadFor(address, address, nil), "TLS full", "connect: refused")
}

// answersOnce answers the first request of each connection, and leaves it open.
func answersOnce(conn net.Conn, then func(*bufio.Reader)) {
	reader := bufio.NewReader(conn)
	request, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	receipt := wire.ReceiptOf(body)
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(receipt), receipt)
	then(reader)
}

func TestASecondRequestThatIsNotAnsweredIsAFailure(t *testing.T) {
	l := both(t, func(conn net.Conn) {
		answersOnce(conn, func(reader *bufio.Reader) { _ = readRequest(conn, reader) })
	})
	expectFailure(t, l, "h1 keep-alive", "answer: closed before any answer")
	expectFailure(t, l, "TLS h1 keep-alive", "answer: closed before any answer")
}

func TestAnIdleConnectionMayEndInOrderOnly(t *testing.T) {
	l := both(t, func(conn net.Conn) { answersOnce(conn, func(*bufio.Reader) {}) })
	r := run(t, l, "h1 keep-alive", func(r Report) bool { return r.IdleCloses >= 3 })
	if len(r.Failed) > 0 {
		t.Errorf("an end in order counts as %q", r.Failed[0].Detail)
	}
	l = both(t, func(conn net.Conn) {
		answersOnce(conn, func(*bufio.Reader) { _ = conn.(*net.TCPConn).SetLinger(0) })
	})
	expectFailure(t, l, "h1 keep-alive", "reset")
	expectFailure(t, both(t, func(net.Conn) {}), "late speaker", "closed before the client spoke")
}

func TestAnAnswerThatAnnouncesTheEndIsObeyed(t *testing.T) {
	l := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		healthy().ServeHTTP(w, r)
	}))
	r := run(t, l, "h1 keep-alive", func(r Report) bool { return r.LastAnswers >= 60 })
	if len(r.Failed) > 0 || r.IdleCloses > 0 {
		t.Errorf("%+v", r)
	}
}

func TestABadGatewayAndAWrongReceiptAreFailures(t *testing.T) {
	bad := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "nobody is there", http.StatusBadGateway) }))
	wrong := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, wire.Receipt(n, 1))
	}))
	for _, kind := range []string{"h1 new", "POST 64 KiB", "upload", "Expect", "h2 one stream", "TLS resumed"} {
		want := "Bad Gateway"
		if kind == "h2 one stream" {
			want = "status 502"
		}
		expectFailure(t, bad, kind, want)
	}
	for _, kind := range []string{"h1 new", "POST 64 KiB", "upload"} {
		expectFailure(t, wrong, kind, "the service got something else")
	}
}

func TestAResumingClientCountsFullHandshakes(t *testing.T) {
	certificate, roots := identity(t)
	var tickets atomic.Int64
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, WrapSession: func(tls.ConnectionState, *tls.SessionState) ([]byte, error) {
		return fmt.Appendf(nil, "ticket %d that nobody can open", tickets.Add(1)), nil
	}, UnwrapSession: func([]byte, tls.ConnectionState) (*tls.SessionState, error) { return nil, nil }}
	address := accept(t, config, func(conn net.Conn) { answersOnce(conn, func(*bufio.Reader) {}) })
	r := run(t, loadFor("", address, roots), "TLS resumed", func(r Report) bool { return r.FullHandshakes >= 3 })
	if r.Resumed > 0 || r.FullHandshakes < 3 {
		t.Errorf("%d full handshakes, %d resumed", r.FullHandshakes, r.Resumed)
	}
}

func TestAServerThatDoesNotAskForTheBodyIsTold(t *testing.T) {
	l := both(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	expectFailure(t, l, "Expect", "no 100 but OK")
}

func TestAStallShowsAsLatencySinceTheRequestWasDue(t *testing.T) {
	const stall = 300 * time.Millisecond
	var requests atomic.Int64
	l := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 5 {
			<-time.After(stall)
		}
		healthy().ServeHTTP(w, r)
	}))
	for _, kind := range []string{"h1 new", "h2 16 streams"} {
		requests.Store(0)
		if r := run(t, l, kind, asked(kind, 30)); r.Kinds[kind].Slowest < stall {
			t.Errorf("the slowest of %s took %v", kind, r.Kinds[kind].Slowest)
		}
	}
}

// download answers with a body that is changed on its way.
func download(t *testing.T, change func([]byte) []byte) *Load {
	t.Helper()
	return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := httptest.NewRecorder()
		healthy().ServeHTTP(recorder, r)
		body := recorder.Body.Bytes()
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(change(body))
	}))
}

func TestAByteThatIsWrongOrMissingInADownloadIsFound(t *testing.T) {
	expectFailure(t, download(t, func(b []byte) []byte { b[len(b)/2]++; return b }), "download", "wrong bytes")
	expectFailure(t, download(t, func(b []byte) []byte { return b[:len(b)-1] }), "TLS download", "body: closed in the answer")
}

func TestAnEventThatIsLeftOutAndAStreamThatIsCutAreFound(t *testing.T) {
	lossy := func(change func(string) string) *Load {
		return serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			recorder := httptest.NewRecorder()
			healthy().ServeHTTP(recorder, r)
			_, _ = io.WriteString(w, change(recorder.Body.String()))
		}))
	}
	expectFailure(t, lossy(func(text string) string {
		before, after, _ := strings.Cut(text, "id: 3\n")
		_, rest, _ := strings.Cut(after, "\n\n")
		return before + rest
	}), "SSE", "event lost")
	expectFailure(t, lossy(func(text string) string {
		before, _, _ := strings.Cut(text, "event: end")
		return before
	}), "SSE", "cut: closed")
}

// webSocket upgrades, and lets work have the frames.
func webSocket(t *testing.T, work func(conn net.Conn, reader *bufio.Reader)) *Load {
	t.Helper()
	return both(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			wire.Accept(request.Header.Get("Sec-WebSocket-Key")))
		work(conn, reader)
	})
}

func TestAWebSocketThatIsCutInTheMidstOfAMessageIsFound(t *testing.T) {
	l := webSocket(t, func(conn net.Conn, reader *bufio.Reader) {
		if _, message, err := wire.ReadFrame(reader); err == nil {
			_, _ = conn.Write(append([]byte{0x82, 126, 0, 200}, message[:50]...))
		}
	})
	expectFailure(t, l, "WebSocket", "cut: closed in the answer")
}

func TestAWebSocketMessageThatIsLostAndAnEarlyFarewellAreFound(t *testing.T) {
	l := webSocket(t, func(conn net.Conn, reader *bufio.Reader) {
		for n := 0; ; n++ {
			opcode, message, err := wire.ReadFrame(reader)
			if err != nil {
				return
			}
			if n != 2 && wire.WriteFrame(conn, opcode, message, false) != nil {
				return
			}
		}
	})
	expectFailure(t, l, "WebSocket", "message lost")
	l = webSocket(t, func(conn net.Conn, reader *bufio.Reader) {
		if _, _, err := wire.ReadFrame(reader); err == nil {
			_ = wire.WriteFrame(conn, wire.Close, []byte{0x03, 0xf4}, false) // 1012, service restart
			_, _, _ = wire.ReadFrame(reader)
		}
	})
	expectFailure(t, l, "WebSocket", "closed by the server before its time")
}

func TestAServerThatNeverAnswersEndsTheClientsPatience(t *testing.T) {
	l := both(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	l.Patience = 200 * time.Millisecond
	expectFailure(t, l, "h1 new", "no end within the client's patience")
}

func TestFailuresTellWhatWasSeen(t *testing.T) {
	err := during("answer", 7, io.ErrUnexpectedEOF)
	if reasonOf(err) != "answer: closed in the answer" || seenOf(err) != 7 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %d bytes", reasonOf(err), seenOf(err))
	}
}
