package proxy

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/rules"
)

// kinds are those of targets that HTTP is spoken to.
func kinds() []string { return []string{"http", "https", "h2c", "h2", "unix", "h2c+unix"} }

// siteOf is a site before a target of a kind.
func siteOf(t *testing.T, kind string, h http.Handler) *site {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(strings.HasPrefix(kind, "http") || kind == "unix")
	server.Config.Protocols.SetHTTP2(kind == "h2")
	server.Config.Protocols.SetUnencryptedHTTP2(strings.HasPrefix(kind, "h2c"))
	server.EnableHTTP2 = kind == "h2"
	if strings.HasSuffix(kind, "unix") {
		_ = server.Listener.Close()
		var err error
		if server.Listener, err = net.Listen("unix", filepath.Join(t.TempDir(), "app.sock")); err != nil {
			t.Fatal(err)
		}
	}
	url, pin := kind+"://"+server.Listener.Addr().String(), ""
	switch kind {
	case "https", "h2":
		server.StartTLS()
		sum := sha256.Sum256(server.Certificate().RawSubjectPublicKeyInfo)
		pin = base64.StdEncoding.EncodeToString(sum[:])
	case "unix", "h2c+unix":
		url = kind + ":" + server.Listener.Addr().String()
		server.Start()
	default:
		server.Start()
	}
	t.Cleanup(server.Close)
	return newSite(t, says(""), nil, func(s *site) {
		s.rows.Upstreams[0].Targets[0].URL = url
		s.rows.Upstreams[0].TargetTLS = rules.TargetTLS{Pin: pin}
	})
}

// forEachKind runs a test with a site before a target of each kind.
func forEachKind(t *testing.T, h http.Handler, test func(*testing.T, *site)) {
	t.Helper()
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) { test(t, siteOf(t, kind, h)) })
	}
}

// read reads one answer to a request with a method.
func read(t *testing.T, from *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	response, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// readFinal passes over any number of 100 Continue: the target's own, and that of net/http when the body is read.
func readFinal(t *testing.T, from *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	for {
		response, body := read(t, from, method)
		if response.StatusCode != http.StatusContinue {
			return response, body
		}
	}
}

func TestTrailersPassBothWaysAnnouncedOrNotToEachKindOfTarget(t *testing.T) {
	forEachKind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Known")
		_, _ = w.Write(body)
		w.Header().Set("X-Known", r.Trailer.Get("X-Sum"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "late")
	}), func(t *testing.T, s *site) {
		c := s.dial(t)
		write(t, c, "POST / HTTP/1.1\nHost: a.test\nTrailer: X-Sum\nTransfer-Encoding: chunked\n\n3\none\n3\ntwo\n0\nX-Sum: 42\n\n")
		response, body := read(t, bufio.NewReader(c), http.MethodPost)
		if body != "onetwo" || response.Trailer.Get("X-Known") != "42" || response.Trailer.Get("X-Late") != "late" {
			t.Errorf("%q with the trailer %v", body, response.Trailer)
		}
	})
}

func TestEarlyHintsPassFromEachKindOfTarget(t *testing.T) {
	forEachKind(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "done")
	}), func(t *testing.T, s *site) {
		c := s.dial(t)
		write(t, c, "GET / HTTP/1.1\nHost: a.test\n\n")
		back := bufio.NewReader(c)
		early, _ := read(t, back, http.MethodGet)
		response, body := read(t, back, http.MethodGet)
		if early.StatusCode != http.StatusEarlyHints || early.Header.Get("Link") == "" || response.StatusCode != http.StatusOK || body != "done" {
			t.Errorf("%s %v, then %s %q", early.Status, early.Header, response.Status, body)
		}
	})
}

func TestEachKindOfTargetDecidesWhetherItWantsTheBody(t *testing.T) {
	forEachKind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}), func(t *testing.T, s *site) {
		c := s.dial(t)
		back := bufio.NewReader(c)
		write(t, c, "POST /yes HTTP/1.1\nHost: a.test\nExpect: 100-continue\nContent-Length: 4\n\n")
		if first, _ := read(t, back, http.MethodPost); first.StatusCode != http.StatusContinue {
			t.Fatalf("got %s before the body was sent", first.Status)
		}
		write(t, c, "body")
		if response, body := readFinal(t, back, http.MethodPost); response.StatusCode != http.StatusOK || body != "body" {
			t.Errorf("%s %q", response.Status, body)
		}
		c = s.dial(t)
		write(t, c, "POST /no HTTP/1.1\nHost: a.test\nExpect: 100-continue\nContent-Length: 4\n\n")
		if response, _ := readFinal(t, bufio.NewReader(c), http.MethodPost); response.StatusCode != http.StatusExpectationFailed {
			t.Errorf("got %s", response.Status)
		}
	})
}

func TestAnAnswerBeforeTheEndOfAnUploadPassesFromEachKindOfTarget(t *testing.T) {
	forEachKind(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(w, "big")
		_ = http.NewResponseController(w).Flush()
	}), func(t *testing.T, s *site) {
		c := s.dial(t)
		write(t, c, "POST / HTTP/1.1\nHost: a.test\nContent-Length: 10000000\n\nonly this")
		if response, body := read(t, bufio.NewReader(c), http.MethodPost); response.StatusCode != http.StatusRequestEntityTooLarge || body != "big" {
			t.Errorf("%s %q", response.Status, body)
		}
	})
}

func TestVisitorsWhoSpeakHTTP10GetTheWholeAnswerOfEachKindOfTarget(t *testing.T) {
	forEachKind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for n := range 3 { // without a length
			_, _ = fmt.Fprintf(w, "%s %d\n", r.Host, n)
			_ = http.NewResponseController(w).Flush()
		}
	}), func(t *testing.T, s *site) {
		for _, connection := range []string{"close", "keep-alive"} {
			answer := s.raw(t, "GET / HTTP/1.0\nHost: a.test\nConnection: "+connection+"\n\n") // it reads until the end: that of the body
			head, body, _ := strings.Cut(answer, "\r\n\r\n")
			if body != "a.test 0\na.test 1\na.test 2\n" || strings.Contains(head, "chunked") || strings.Contains(head, "keep-alive") {
				t.Errorf("%s: %q", connection, answer)
			}
		}
	})
}

func TestAVisitorWhoSpeaksHTTP10CanKeepTheConnectionWhereTheLengthIsKnown(t *testing.T) {
	forEachKind(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "ok")
	}), func(t *testing.T, s *site) {
		c := s.dial(t)
		back := bufio.NewReader(c)
		for range 3 {
			write(t, c, "GET / HTTP/1.0\nHost: a.test\nConnection: keep-alive\n\n")
			if response, body := read(t, back, http.MethodGet); body != "ok" || response.Header.Get("Connection") != "keep-alive" {
				t.Errorf("%v %q", response.Header, body)
			}
		}
	})
}

func TestAnswersWithoutABodyLeaveTheConnectionUsableWhateverTheKindOfTarget(t *testing.T) {
	forEachKind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("Content-Length", "12345")
			if r.Method != http.MethodHead {
				_, _ = io.WriteString(w, strings.Repeat("x", 12345))
			}
		}
	}), func(t *testing.T, s *site) {
		c := s.dial(t)
		back := bufio.NewReader(c)
		for range 2 {
			for _, row := range []struct {
				method, path string
				status       int
				length       string
			}{{"HEAD", "/", 200, "12345"}, {"GET", "/204", 204, ""}, {"GET", "/304", 304, ""}, {"GET", "/", 200, "12345"}} {
				write(t, c, row.method+" "+row.path+" HTTP/1.1\nHost: a.test\n\n")
				response, body := read(t, back, row.method)
				if response.StatusCode != row.status || response.Header.Get("Content-Length") != row.length || len(response.TransferEncoding) > 0 || row.path == "/" && row.method == "GET" != (len(body) == 12345) {
					t.Errorf("%s %s: %s %v, %d bytes", row.method, row.path, response.Status, response.Header, len(body))
				}
			}
		}
	})
}

func TestChunksPassBothWaysAtOnceWhateverTheKindOfTarget(t *testing.T) {
	forEachKind(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		controller := http.NewResponseController(w)
		_ = controller.EnableFullDuplex()
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, line)
			_ = controller.Flush()
		}
	}), func(t *testing.T, s *site) {
		c := s.dial(t)
		write(t, c, "POST / HTTP/1.1\nHost: a.test\nTransfer-Encoding: chunked\n\n")
		_, _ = io.WriteString(c, "6\r\nfirst\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		back := bufio.NewReader(response.Body)
		if line, err := back.ReadString('\n'); err != nil || line != "first\n" {
			t.Fatalf("%q, %v", line, err)
		}
		for n := range 5 {
			_, _ = fmt.Fprintf(c, "2\r\n%d\n\r\n", n)
			if line, err := back.ReadString('\n'); err != nil || line != fmt.Sprintln(n) {
				t.Fatalf("%q, %v", line, err)
			}
		}
		write(t, c, "0\n\n")
		if rest, err := io.ReadAll(back); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

// remoteProcedures answers as a server of gRPC does (PROTOCOL-HTTP2): messages with a length before them, the outcome in the trailer.
func remoteProcedures(ended chan<- struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" || r.Header.Get("Content-Type") != "application/grpc" {
			w.Header().Set("Grpc-Message", fmt.Sprint("no gRPC: ", r.Proto, r.Header))
			return
		}
		controller := http.NewResponseController(w)
		switch r.URL.Path {
		case "/shop.Cart/Fail": // without a message: the outcome stands in the header
			w.Header().Set("Grpc-Status", "5")
		case "/shop.Cart/Wait":
			w.Header().Set("X-Timeout", r.Header.Get("Grpc-Timeout"))
			_ = controller.Flush()
			<-r.Context().Done()
			ended <- struct{}{}
		case "/shop.Cart/Break":
			_ = controller.Flush()
			panic(http.ErrAbortHandler)
		default:
			_ = controller.Flush()
			message := make([]byte, 8)
			for {
				if _, err := io.ReadFull(r.Body, message); err != nil {
					break
				}
				_, _ = w.Write(message)
				_ = controller.Flush()
			}
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
			w.Header().Set(http.TrailerPrefix+"Grpc-Message", "well")
		}
	})
}

// begin begins a call of a remote procedure.
func begin(ctx context.Context, client *http.Client, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://example.com"+path, body)
	if err != nil {
		return nil, err
	}
	request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "Grpc-Timeout": {"5S"}}
	return client.Do(request)
}

func call(ctx context.Context, t *testing.T, client *http.Client, path string, body io.Reader) *http.Response {
	t.Helper()
	response, err := begin(ctx, client, path, body)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func TestCallsOfGRPCPassWithMessagesOutcomesAndDeadlines(t *testing.T) {
	for _, kind := range []string{"h2", "h2c", "h2c+unix"} {
		t.Run(kind, func(t *testing.T) {
			ended := make(chan struct{}, 1)
			s := siteOf(t, kind, remoteProcedures(ended))
			client := overHTTP2(t, s)
			exchangeMessages(t, client)
			failed := call(t.Context(), t, client, "/shop.Cart/Fail", http.NoBody)
			if rest, err := io.ReadAll(failed.Body); err != nil || len(rest) > 0 || failed.Header.Get("Grpc-Status") != "5" {
				t.Errorf("a failure comes as %v, %q, %v", failed.Header, rest, err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			waiting := call(ctx, t, client, "/shop.Cart/Wait", http.NoBody)
			if got := waiting.Header.Get("X-Timeout"); got != "5S" {
				t.Errorf("the deadline arrives as %q", got)
			}
			cancel()
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Error("the target does not learn that its caller has given up")
			}
			breakOff(t, client)
		})
	}
}

// exchangeMessages sends messages and waits for the answer to each, on one stream.
func exchangeMessages(t *testing.T, client *http.Client) {
	t.Helper()
	reader, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	response := call(t.Context(), t, client, "/shop.Cart/Talk", reader)
	for n := range 5 {
		sent := fmt.Sprintf("\x00\x00\x00\x00\x03%03d", n)
		if _, err := io.WriteString(writer, sent); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, 8)
		if _, err := io.ReadFull(response.Body, message); err != nil || string(message) != sent {
			t.Fatalf("message %d: %q, %v", n, message, err)
		}
	}
	_ = writer.Close()
	if rest, err := io.ReadAll(response.Body); err != nil || len(rest) > 0 || response.Trailer.Get("Grpc-Status") != "0" || response.Trailer.Get("Grpc-Message") != "well" {
		t.Errorf("%q, %v, trailer %v", rest, err, response.Trailer)
	}
}

// breakOff makes a call whose answer breaks off.
func breakOff(t *testing.T, client *http.Client) {
	t.Helper()
	response, err := begin(t.Context(), client, "/shop.Cart/Break", http.NoBody)
	if err != nil {
		return // not even its header has come through
	}
	defer func() { _ = response.Body.Close() }()
	if rest, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("an answer that breaks off looks whole: %q %v", rest, response.Trailer)
	}
}
