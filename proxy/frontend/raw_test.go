package frontend

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// raw gives a server a connection that it knows nothing of, which echoes; the other end is returned.
func raw(t *testing.T, server *Server) net.Conn {
	t.Helper()
	listener := listen(t)
	defer func() { _ = listener.Close() }()
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Tunnel(far, func() { _, _ = io.Copy(far, far) })
	return near
}

// alive reports whether a connection still echoes.
func alive(c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("x")); err != nil {
		return false
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err == nil
}

func TestARawConnectionCountsAsATunnelUntilItEnds(t *testing.T) {
	server := newSite(t).serve(t, Options{Handler: newStages()})
	c := raw(t, server)
	if s := server.Stats(); s.Tunnels != 1 || s.Open != 1 || s.Requests != 0 || !alive(c) {
		t.Errorf("%+v", s)
	}
	_ = c.Close()
	until(t, "nothing is open", server.empty)
}

func TestADrainLeavesRawConnectionsTheTimeOfTunnels(t *testing.T) {
	server := newSite(t).serve(t, quick(newStages()))
	c := raw(t, server)
	began := time.Now()
	result := drainWithin(t, server, time.Minute, Grace{Tunnels: time.Second, Requests: 10 * time.Millisecond})
	for time.Since(began) < 500*time.Millisecond { // the last quarter is for ends
		if !alive(c) {
			t.Fatalf("it was cut after %v", time.Since(began))
		}
	}
	if err := <-result; err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if alive(c) {
		t.Error("it goes on after the drain")
	}
}

func TestAHurriedDrainEndsRawConnectionsEarlier(t *testing.T) {
	server := newSite(t).serve(t, quick(newStages()))
	c := raw(t, server)
	result := drainWithin(t, server, time.Minute, Grace{Tunnels: time.Hour})
	if !alive(c) {
		t.Fatal("it was cut at the begin")
	}
	server.Hurry(time.Now().Add(300 * time.Millisecond))
	if err := <-result; err != nil || alive(c) {
		t.Errorf("Drain: %v", err)
	}
}

func TestAServerThatHasEndedClosesRawConnections(t *testing.T) {
	server := newSite(t).serve(t, quick(newStages()))
	if err := <-drainOf(t, server, time.Minute); err != nil {
		t.Fatal(err)
	}
	until(t, "the server has ended", server.plain.queue.hasEnded) // a moment after the drain has
	near, far := net.Pipe()
	var called atomic.Bool
	server.Tunnel(far, func() { called.Store(true) })
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || called.Load() || !server.empty() {
		t.Errorf("%v, called %t", err, called.Load())
	}
}
