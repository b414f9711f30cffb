package frontend

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestEveryWayToAnswerSaysConnectionCloseWhileDraining(t *testing.T) {
	ways := map[string]func(http.ResponseWriter, *http.Request){
		"nothing":      func(http.ResponseWriter, *http.Request) {},
		"a status":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"bytes":        func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("bytes")) },
		"a string":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "text") },
		"a reader":     func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, strings.NewReader("read")) },
		"a flush":      func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() },
		"a controller": func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush() },
		"its own mind": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Connection", "keep-alive")
			w.WriteHeader(200)
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			entered, proceed := make(chan struct{}), make(chan struct{})
			site := newSite(t)
			server := site.serve(t, patient(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				entered <- struct{}{}
				<-proceed
				way(w, r)
			})))
			c := dial(t, site.plain.Addr().String())
			c.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
			<-entered
			result := drainOf(t, server, time.Minute)
			proceed <- struct{}{}
			if answer, _ := c.answer(); !answer.Close {
				t.Errorf("the answer lacks Connection: close: %v", answer.Header)
			}
			c.ended()
			if err := <-result; err != nil {
				t.Errorf("Drain: %v", err)
			}
		})
	}
}

func TestAnInformationalAnswerDoesNotSayConnectionClose(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, patient(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusOK)
	})))
	c := dial(t, site.plain.Addr().String())
	until(t, "the connection is open", func() bool { return server.Stats().New == 1 })
	result := drainOf(t, server, time.Minute)
	hints, _ := c.get("/")
	if hints.StatusCode != http.StatusEarlyHints || hints.Header.Get("Connection") != "" {
		t.Errorf("first came %s, %v", hints.Status, hints.Header)
	}
	if answer, _ := c.answer(); answer.StatusCode != http.StatusOK || !answer.Close {
		t.Errorf("then came %s, close %t", answer.Status, answer.Close)
	}
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestDeadlinesOfAConnectionAreWithinTheHandlersReach(t *testing.T) {
	site := newSite(t)
	site.serve(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		controller := http.NewResponseController(w)
		for _, err := range []error{controller.SetReadDeadline(time.Now().Add(time.Minute)), controller.SetWriteDeadline(time.Now().Add(time.Minute)), controller.EnableFullDuplex()} {
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
	})})
	for address, client := range map[string]*http.Client{
		"http://" + site.plain.Addr().String():         site.client(t, false, false),
		"https://" + site.secure.Addr().String():       site.client(t, false, false),
		"https://" + site.secure.Addr().String() + "/": site.client(t, true, false),
	} {
		if got := fetch(t, client, address); got != "" {
			t.Errorf("%s: %s", address, got)
		}
	}
}

func TestOneEndOfATunnelCanBeClosedBeforeTheOther(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		if half, ok := conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
			return
		}
		_, _ = io.Copy(io.Discard, buffered) // until the client ends, too
	})})
	for _, c := range []*wire{dial(t, site.plain.Addr().String()), dialTLS(t, site, "http/1.1")} {
		c.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
		c.answer()
		c.ended()
		if tunnels := server.Stats().Tunnels; tunnels != 1 {
			t.Errorf("%d tunnels after the server's half was closed", tunnels)
		}
		_ = c.Close()
		until(t, "the tunnel is over", func() bool { return server.Stats().Tunnels == 0 })
	}
}
