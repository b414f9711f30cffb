package frontend

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// witness answers with what the handler was told of the request.
func witness(w http.ResponseWriter, r *http.Request) {
	name, protocol := "-", "-"
	if r.TLS != nil {
		name, protocol = r.TLS.ServerName, r.TLS.NegotiatedProtocol
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	_, _ = fmt.Fprintf(w, "%s tls=%s,%s from=%s", r.Proto, name, protocol, host)
}

func TestEachSinkSpeaksItsProtocolAndTellsTheHandlerOfTLS(t *testing.T) {
	site := newSite(t)
	site.serve(t, Options{Handler: http.HandlerFunc(witness)})
	for _, c := range []struct {
		url   string
		http2 bool
		want  string
	}{
		{"http://" + site.plain.Addr().String(), false, "HTTP/1.1 tls=-,- from=127.0.0.1"},
		{"https://" + site.secure.Addr().String(), false, "HTTP/1.1 tls=shop.example.com, from=127.0.0.1"},
		{"https://" + site.secure.Addr().String(), true, "HTTP/2.0 tls=shop.example.com,h2 from=127.0.0.1"},
	} {
		if got := fetch(t, site.client(t, c.http2, true), c.url); got != c.want {
			t.Errorf("%s: %q, want %q", c.url, got, c.want)
		}
	}
}

func fetch(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var body bytes.Buffer
	if _, err := body.ReadFrom(answer.Body); err != nil {
		t.Fatal(err)
	}
	return body.String()
}

func TestHTTP2InClearTextIsRefused(t *testing.T) {
	site := newSite(t)
	site.serve(t, Options{Handler: http.HandlerFunc(witness)})
	c := dial(t, site.plain.Addr().String())
	c.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	if answer, _ := c.answer(); answer.StatusCode != http.StatusHTTPVersionNotSupported {
		t.Errorf("the preface of HTTP/2 was answered with %s", answer.Status)
	}
}

func TestASinkForTLSRefusesClearText(t *testing.T) {
	server := New(Options{Handler: http.HandlerFunc(witness)})
	run(t, server)
	for _, sink := range []Sink{server.HTTP1(), server.HTTP2()} {
		ours, theirs := net.Pipe()
		sink.ServeConn(theirs)
		newWire(t, ours).ended()
	}
}

func TestARequestHeadOf64KiBPassesAndALongerOneDoesNot(t *testing.T) {
	site := newSite(t)
	site.serve(t, Options{Handler: http.HandlerFunc(witness)})
	for size, want := range map[int]int{60 << 10: http.StatusOK, 70 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		c := dial(t, site.plain.Addr().String())
		c.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\nCookie: " + strings.Repeat("c", size) + "\r\n\r\n")
		if answer, _ := c.answer(); answer.StatusCode != want {
			t.Errorf("%d bytes of cookie were answered with %s, want %d", size, answer.Status, want)
		}
	}
}

func TestAClientThatNeverSpeaksLosesItsConnection(t *testing.T) {
	site := newSite(t)
	site.serve(t, Options{Handler: http.HandlerFunc(witness), ReadHeaderTimeout: 50 * time.Millisecond})
	dial(t, site.plain.Addr().String()).ended()
}

func TestAConnectionHandedOverAfterTheEndIsClosed(t *testing.T) {
	server := New(Options{Handler: http.HandlerFunc(witness)})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := server.Run(ctx); err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	server.Plain().ServeConn(theirs)
	newWire(t, ours).ended()
	if open := server.Stats().Open; open != 0 {
		t.Errorf("%d connections are still known", open)
	}
}

func TestRunEndsWhenADrainHasEnded(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"all has ended": 20 * time.Second, "the rest was cut": 10 * time.Millisecond} {
		server := New(Options{Handler: http.HandlerFunc(witness), IdleGrace: 50 * time.Millisecond})
		ended := make(chan error, 1)
		go func() { ended <- server.Run(context.Background()) }()
		ours, theirs := net.Pipe()
		server.Plain().ServeConn(theirs)
		<-drainOf(t, server, timeout) // its error is tested elsewhere
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s, and Run goes on", name)
		}
		_ = ours.Close()
	}
}

func TestRunEndsWithEveryConnectionClosedAndEveryHandlerReturned(t *testing.T) {
	site, handler := newSite(t), newStages()
	server := New(Options{Handler: handler})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	site.current.Store(&instance{Server: server})

	address := site.plain.Addr().String()
	silent, idle, slow, tunnel := dial(t, address), dial(t, address), dial(t, address), dial(t, address)
	idle.get("/")
	slow.send("GET /slow HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	<-handler.begun
	tunnel.get("/tunnel")
	want := Stats{Open: 4, New: 1, Active: 1, Idle: 1, Tunnels: 1, Requests: 1}
	until(t, "all four are counted", func() bool { return server.Stats() == want })

	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	for _, c := range []*wire{silent, idle, slow, tunnel} {
		c.ended()
	}
	if got := server.Stats(); got != (Stats{}) {
		t.Errorf("after the end there are %+v", got)
	}
}

func TestAPanicOfTheHandlerIsAnErrorInTheLogAndCutsTheAnswer(t *testing.T) {
	var log bytes.Buffer
	site := newSite(t)
	server := site.serve(t, Options{Handler: newStages(), Log: slog.New(slog.NewTextHandler(&log, nil))})
	c := dial(t, site.plain.Addr().String())
	c.send("GET /panic HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	c.ended()
	until(t, "the connection is forgotten", func() bool { return server.Stats() == Stats{} })
	for _, part := range []string{"level=ERROR", `cause="a bug"`, "host=shop.example.com", "stages_test.go"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %s: %s", part, log.String())
		}
	}
}
