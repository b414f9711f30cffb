package frontend

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// patient options make sure that it is not a timer that ends what a test looks at.
func patient(handler http.Handler) Options {
	return Options{Handler: handler, IdleGrace: time.Minute, GoAwayDelay: time.Minute}
}

// quick options let a drain end soon.
func quick(handler http.Handler) Options {
	return Options{Handler: handler, IdleGrace: 40 * time.Millisecond, GoAwayDelay: 40 * time.Millisecond}
}

func TestARequestInFlightIsAnsweredWholeAndEndsTheDrain(t *testing.T) {
	site, handler := newSite(t), newStages()
	server := site.serve(t, patient(handler))
	c := dial(t, site.plain.Addr().String())
	c.send("POST /slow HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: 5\r\n\r\n")
	<-handler.begun
	result := drainOf(t, server, time.Minute)
	handler.finish <- struct{}{}
	c.send("hello") // the body, while draining
	if answer, body := c.answer(); body != "ok hello" || !answer.Close {
		t.Errorf("answer %q, close %t; it must be whole and say Connection: close", body, answer.Close)
	}
	c.ended()
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestAConnectionThatHasNotSpokenYetGetsItsFirstRequestServed(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, patient(newStages()))
	c := dial(t, site.plain.Addr().String())
	until(t, "the connection is open", func() bool { return server.Stats().New == 1 })
	result := drainOf(t, server, time.Minute)
	if answer, body := c.get("/"); body != "ok " || !answer.Close {
		t.Errorf("answer %q, close %t", body, answer.Close)
	}
	c.ended()
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestAnIdleConnectionMaySpeakOnceMore(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, patient(newStages()))
	c := dial(t, site.plain.Addr().String())
	if answer, _ := c.get("/"); answer.Close {
		t.Fatal("the connection was not kept alive before the drain")
	}
	result := drainOf(t, server, time.Minute)
	if answer, _ := c.get("/again"); !answer.Close {
		t.Error("the answer does not say Connection: close")
	}
	c.ended()
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestAClientInTheMiddleOfARequestHeadIsWaitedFor(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, quick(newStages()))
	idle, c := dial(t, site.plain.Addr().String()), dial(t, site.plain.Addr().String())
	idle.get("/")
	c.get("/")
	c.send("GET / HTTP/1.1\r\nHost: sh")
	until(t, "the head's begin was read", func() bool { return heard(server) == 1 })
	result := drainOf(t, server, time.Minute)
	idle.ended() // its grace is over, and c's would be
	c.send("op.example.com\r\n\r\n")
	if answer, body := c.answer(); body != "ok " || !answer.Close {
		t.Errorf("answer %q, close %t", body, answer.Close)
	}
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

// Some clients send a line end after a body; the drain once waited for the rest of that request up to its deadline.
func TestAStrayLineEndDoesNotHoldTheDrainUp(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, quick(newStages()))
	c := dial(t, site.plain.Addr().String())
	c.get("/")
	c.send("\r\n")
	until(t, "the line end was read", func() bool { return heard(server) == 1 })
	if err := <-drainOf(t, server, time.Minute); err != nil {
		t.Errorf("Drain: %v", err)
	}
	c.ended()
}

// heard counts resting connections that have begun to speak.
func heard(server *Server) (count int) {
	for _, c := range server.known.list() {
		if c.resting() && c.heard.Load() != 0 {
			count++
		}
	}
	return count
}

func TestTunnelsOutliveTheRequestsAndEndWithTheDrain(t *testing.T) {
	site, handler := newSite(t), newStages()
	server := site.serve(t, quick(handler))
	tunnel, slow := dial(t, site.plain.Addr().String()), dial(t, site.plain.Addr().String())
	if answer, _ := tunnel.get("/tunnel"); answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("no tunnel: %s", answer.Status)
	}
	slow.send("GET /slow HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	<-handler.begun
	result := drainOf(t, server, time.Minute)
	idle := dial(t, site.plain.Addr().String()) // a late one, to see that its grace passes
	idle.ended()
	tunnel.send("still here")
	echoed := make([]byte, len("still here"))
	if _, err := io.ReadFull(tunnel.in, echoed); err != nil {
		t.Fatalf("the tunnel ended before the requests: %v", err)
	}
	handler.finish <- struct{}{}
	slow.answer()
	tunnel.ended()
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}

func TestATunnelOverTLSEndsWithACloseNotify(t *testing.T) {
	site := newSite(t)
	// A little grace, since crypto/tls cuts a connection on which a Write has not returned.
	server := site.serve(t, Options{Handler: newStages()})
	c, received := dialCounted(t, site)
	c.get("/tunnel")
	before := received.Load()
	if err := <-drainWithin(t, server, time.Minute, Grace{Tunnels: 100 * time.Millisecond}); err != nil {
		t.Errorf("Drain: %v", err)
	}
	c.ended()
	if received.Load() == before {
		t.Error("the connection was cut, with no close_notify")
	}
}

func TestAtItsDeadlineTheDrainCutsTheRestAndSaysWhat(t *testing.T) {
	site, handler := newSite(t), newStages()
	server := site.serve(t, patient(handler))
	slow, received := dialCounted(t, site)
	tunnel, idle := dial(t, site.plain.Addr().String()), dial(t, site.plain.Addr().String())
	slow.send("GET /slow HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	<-handler.begun
	tunnel.get("/tunnel")
	idle.get("/")
	before := received.Load()
	err := <-drainOf(t, server, 4*time.Second)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "cut 2 connections (1 idle, 0 tunnels) with 1 requests and 0 event streams in flight") {
		t.Errorf("Drain: %v", err)
	}
	tunnel.ended() // a moment before
	idle.ended()
	slow.ended()
	if received.Load() != before {
		t.Error("a cut answer looks whole to the client: there was a close_notify")
	}
}

func TestADrainWithNothingOpenReturnsAtOnce(t *testing.T) {
	server := New(Options{Handler: newStages()})
	run(t, server)
	began := time.Now()
	if err := <-drainOf(t, server, time.Minute); err != nil || time.Since(began) > time.Second {
		t.Errorf("Drain: %v after %v", err, time.Since(began))
	}
}

func TestADrainWaitsForConnectionsThatAreOnTheirWay(t *testing.T) {
	site := newSite(t)
	server := site.serve(t, patient(newStages()))
	c := dial(t, site.secure.Addr().String())
	until(t, "the handshake is awaited", func() bool { return site.current.Load().arriving.Load() == 1 })
	result := drainOf(t, server, time.Minute)
	secure := secureWire(t, site, c.Conn, "http/1.1") // shakes hands now
	if answer, body := secure.get("/"); body != "ok " || !answer.Close {
		t.Errorf("answer %q, close %t", body, answer.Close)
	}
	if err := <-result; err != nil {
		t.Errorf("Drain: %v", err)
	}
}
