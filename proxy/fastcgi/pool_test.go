package fastcgi

import (
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"
)

// echo answers every request on a connection, saying which connection it is and whether it is to be kept.
func echo(n int, c *peer) {
	for {
		_, flags, err := c.request()
		if err != nil {
			return
		}
		if _, err := c.body(); err != nil {
			return
		}
		_ = c.answer("Kept: " + map[byte]string{0: "no", flagKeep: "yes"}[flags] + "\n\n" + string(rune('a'+n)))
		if flags != flagKeep {
			return
		}
	}
}

func TestConnectionsAreKeptUpToANumberAndUsedAgain(t *testing.T) {
	l := serveRaw(t, "tcp", echo)
	transport := newTransport(t, l, func(c *Config) { c.MaxIdle = 2 })
	for range 3 {
		if response, text := get(t, transport, "/"); text != "a" || response.Header.Get("Kept") != "yes" {
			t.Errorf("%q, %v", text, response.Header)
		}
	}
	var open []io.Closer
	for range 4 {
		response, err := transport.RoundTrip(newRequest(t, http.MethodGet, "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, readAtClose{response.Body})
	}
	for _, body := range open {
		body.Close()
	}
	if transport.idle() != 2 || l.count() != 4 {
		t.Errorf("%d of %d connections are kept", transport.idle(), l.count())
	}
}

type readAtClose struct{ io.ReadCloser }

func (r readAtClose) Close() error {
	_, _ = io.Copy(io.Discard, r.ReadCloser)
	return r.ReadCloser.Close()
}

func TestNoConnectionIsKeptUnlessItIsWanted(t *testing.T) {
	l := serveRaw(t, "unix", echo)
	transport := newTransport(t, l, func(c *Config) { c.MaxIdle = 0 })
	for _, want := range []string{"a", "b"} {
		if response, text := get(t, transport, "/"); text != want || response.Header.Get("Kept") != "no" {
			t.Errorf("%q, %v", text, response.Header)
		}
	}
}

func TestAKeptConnectionIsClosedAfterItsTime(t *testing.T) {
	ended := make(chan struct{}, 2)
	l := serveRaw(t, "unix", func(n int, c *peer) {
		echo(n, c)
		ended <- struct{}{}
	})
	transport := newTransport(t, l, func(c *Config) { c.IdleTimeout = 10 * time.Millisecond })
	for range 2 { // the clock starts anew
		get(t, transport, "/")
		receive(t, ended)
	}
}

func TestClosingIdleConnectionsLastsUntilTheNextRequest(t *testing.T) {
	l := serveRaw(t, "unix", echo)
	transport := newTransport(t, l, nil)
	get(t, transport, "/")
	response, err := transport.RoundTrip(newRequest(t, http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	transport.CloseIdleConnections()
	if readAtClose.Close(readAtClose{response.Body}); transport.idle() != 0 {
		t.Error("a request that began before has its connection kept")
	}
	if _, text := get(t, transport, "/"); text != "b" || transport.idle() != 1 {
		t.Errorf("%q, %d kept", text, transport.idle())
	}
}

func TestAConnectionThatTheApplicationClosedWhileItIdledIsNotUsedAgain(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		closed := make(chan struct{}, 2)
		l := serveRaw(t, network, func(n int, c *peer) {
			if n > 0 {
				echo(n, c)
				return
			}
			_, _, _ = c.ask()
			_ = c.answer("X: y\n\na")
			c.Close()
			closed <- struct{}{}
		})
		transport := newTransport(t, l, nil)
		get(t, transport, "/")
		receive(t, closed)
		_, text, err := roundTrip(t, transport, newRequest(t, http.MethodPost, "/", strings.NewReader("x")))
		if err != nil || text != "b" {
			t.Errorf("%s: %q, %v", network, text, err)
		}
	}
}

func TestAConnectionOnWhichSomethingUnaskedForCameIsNotUsedAgain(t *testing.T) {
	for name, extra := range map[string]string{"at once": "atonce", "later": ""} {
		said := make(chan struct{})
		l := serveRaw(t, "unix", func(n int, c *peer) {
			if n > 0 {
				echo(n, c)
				return
			}
			_, _, _ = c.ask()
			_, _ = io.WriteString(c, string(record(typeStdout, "X: y\n\na"))+string(ended(0, 0))+extra)
			_, _ = c.Write(record(typeStdout, "X: evil\n\n"))
			close(said)
			_, _, _ = c.record()
		})
		transport := newTransport(t, l, nil)
		get(t, transport, "/")
		receive(t, said)
		if _, text := get(t, transport, "/"); text != "b" {
			t.Errorf("%s: %q", name, text)
		}
	}
}

func TestOnlyARequestThatMayBeRepeatedIsSentAgainAfterAKeptConnectionSwallowedIt(t *testing.T) {
	for method, want := range map[string]int{http.MethodGet: 2, http.MethodHead: 2, http.MethodPost: 1, http.MethodDelete: 1} {
		var mu sync.Mutex
		asked := 0
		l := serveRaw(t, "tcp", func(n int, c *peer) {
			_, _, _ = c.ask()
			_ = c.answer("X: y\n\na")
			if _, _, err := c.ask(); err == nil {
				mu.Lock()
				asked++
				mu.Unlock()
			}
			if n > 0 {
				_ = c.answer("X: y\n\nb")
			}
		})
		transport := newTransport(t, l, nil)
		get(t, transport, "/")
		transport.pool.idle[0].since = time.Now().Add(time.Hour) // young however slow the machine is
		_, _, err := roundTrip(t, transport, newRequest(t, method, "/", nil))
		mu.Lock()
		if (err == nil) != (want == 2) || asked != 1 || l.count() != want {
			t.Errorf("%s: %v, %d on the kept one, %d connections", method, err, asked, l.count())
		}
		mu.Unlock()
	}
}

func TestARequestIsNotSentAgainWhenAnythingOfAnAnswerCame(t *testing.T) {
	l := serveRaw(t, "unix", func(_ int, c *peer) {
		_, _, _ = c.ask()
		_ = c.answer("X: y\n\na")
		_, _, _ = c.ask()
		_ = c.write(typeStderr, "I began")
	})
	transport := newTransport(t, l, nil)
	get(t, transport, "/")
	if _, _, err := roundTrip(t, transport, newRequest(t, http.MethodGet, "/", nil)); err == nil || l.count() != 1 {
		t.Errorf("%v, %d connections", err, l.count())
	}
}

func TestARequestThatMustNotBeRepeatedUsesNoOldConnectionButTakesItsPlace(t *testing.T) {
	ended := make(chan int, 4)
	l := serveRaw(t, "unix", func(n int, c *peer) {
		echo(n, c)
		ended <- n
	})
	transport := newTransport(t, l, nil)
	get(t, transport, "/")
	transport.pool.idle[0].since = time.Now().Add(-2 * idleUnrepeatable)
	if _, text := get(t, transport, "/"); text != "a" {
		t.Errorf("GET: %q", text)
	}
	transport.pool.idle[0].since = time.Now().Add(-2 * idleUnrepeatable)
	_, text, err := roundTrip(t, transport, newRequest(t, http.MethodPost, "/", strings.NewReader("x")))
	if err != nil || text != "b" {
		t.Errorf("POST: %q, %v", text, err)
	}
	if n := receive(t, ended); n != 0 {
		t.Errorf("connection %d was closed", n)
	}
	waitFor(t, func() bool { return transport.idle() == 1 })
}

func TestABodyGoesToAFreshConnectionWholeWhenTheKeptOneTakesNotEvenTheBeginning(t *testing.T) {
	l := serveRaw(t, "unix", func(n int, c *peer) {
		for {
			_, body, err := c.ask()
			if err != nil {
				return
			}
			_ = c.answer("X: y\n\n" + string(rune('a'+n)) + body)
		}
	})
	transport := newTransport(t, l, nil)
	get(t, transport, "/")
	// Whoever asks for the connection finds it well, and it dies before the request is written.
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			_ = i.Conn.(*net.UnixConn).CloseWrite()
		}
	}})
	for _, body := range []string{"body", strings.Repeat("x", atOnce+1)} {
		_, text, err := roundTrip(t, transport, newRequest(t, http.MethodPost, "/", strings.NewReader(body)).WithContext(ctx))
		if err != nil || (text != "b"+body && text != "c"+body) {
			t.Errorf("%q, %v", text, err)
		}
		waitFor(t, func() bool { return transport.idle() == 1 })
	}
}

func TestATargetThatDiesWithABodyAlreadyReadIsNotSaidToBeUnreachable(t *testing.T) {
	l := serveRaw(t, "unix", echo)
	transport := newTransport(t, l, nil)
	get(t, transport, "/")
	log := ""
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { log += "get " },
		GotConn: func(i httptrace.GotConnInfo) {
			log += "got "
			_ = i.Conn.(*net.UnixConn).CloseWrite()
			l.Close()
		},
	})
	transport.pool.idle[0].since = time.Now().Add(time.Hour) // young however slow the machine is
	_, _, err := roundTrip(t, transport, newRequest(t, http.MethodPost, "/", strings.NewReader("body")).WithContext(ctx))
	if err == nil || log != "get got " { // or the next target would get what is left of the body: nothing
		t.Errorf("%v after %s", err, log)
	}
}

func TestAConnectionThatGrewOldWhileTheBodyCameIsReplaced(t *testing.T) {
	l := serveRaw(t, "unix", echo)
	transport := newTransport(t, l, nil)
	get(t, transport, "/")
	body := &slow{text: "x", pause: idleUnrepeatable + 100*time.Millisecond}
	r := newRequest(t, http.MethodPost, "/", body)
	r.ContentLength = 1
	_, text, err := roundTrip(t, transport, r)
	if err != nil || text != "b" {
		t.Errorf("%q, %v", text, err)
	}
}
