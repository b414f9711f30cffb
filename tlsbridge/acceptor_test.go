package tlsbridge

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func run(t *testing.T, a *Acceptor) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// hello connects and reads what Handle writes; "" if nothing comes within wait.
func hello(t *testing.T, address string, wait time.Duration) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetReadDeadline(time.Now().Add(wait))
	text, _ := io.ReadAll(c)
	return string(text)
}

func greet(c net.Conn) {
	_, _ = io.WriteString(c, "hello")
	_ = c.Close()
}

func TestAPausedAcceptorLeavesConnectionsInTheQueueAndResumes(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	listener := listen(t)
	var handled atomic.Int64
	a := &Acceptor{Listener: listener, Handle: func(c net.Conn) { handled.Add(1); greet(c) }}
	stop := run(t, a)
	if got := hello(t, listener.Addr().String(), 5*time.Second); got != "hello" {
		t.Fatalf("before: %q", got)
	}
	a.Pause()
	waiting := make(chan string, 1)
	go func() { waiting <- hello(t, listener.Addr().String(), 10*time.Second) }()
	if got := hello(t, listener.Addr().String(), 100*time.Millisecond); got != "" || handled.Load() != 1 {
		t.Errorf("while paused: %q, %d handled", got, handled.Load())
	}
	a.Resume()
	if got := <-waiting; got != "hello" {
		t.Errorf("the connection that waited got %q", got)
	}
	stop()
}

// A connection that was accepted in the instant of Pause must be known to whoever drains afterwards.
func TestWhenPauseReturnsEveryAcceptedConnectionHasBeenHandedOver(t *testing.T) {
	for range 200 {
		listener := listen(t)
		var accepting, handled atomic.Int64
		a := &Acceptor{Listener: counting{listener, &accepting}, Handle: func(c net.Conn) { handled.Add(1); _ = c.Close() }}
		stop := run(t, a)
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		a.Pause()
		if accepted := accepting.Load(); accepted != handled.Load() {
			t.Fatalf("%d accepted, %d handed over", accepted, handled.Load())
		}
		_ = c.Close()
		stop()
	}
}

// counting counts the connections that were accepted.
type counting struct {
	net.Listener
	accepted *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return c, err
}

func (l counting) SetDeadline(at time.Time) error {
	return l.Listener.(*net.TCPListener).SetDeadline(at)
}

func TestTheAcceptLoopStopsWhenTheListenerIsClosed(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	listener := listen(t)
	done := make(chan error, 1)
	go func() { done <- (&Acceptor{Listener: listener, Handle: greet}).Run(context.Background()) }()
	_ = listener.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEndingTheAcceptLoopLeavesTheSocketToOthers(t *testing.T) {
	listener := listen(t)
	run(t, &Acceptor{Listener: listener, Handle: greet})()
	_ = listener.(*net.TCPListener).SetDeadline(time.Time{})
	stop := run(t, &Acceptor{Listener: listener, Handle: greet})
	defer stop()
	if got := hello(t, listener.Addr().String(), 5*time.Second); got != "hello" {
		t.Errorf("the next process got %q", got)
	}
}

// exhausted has no descriptor left for some accepts, then ends.
type exhausted struct {
	net.Listener
	left int
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.left == 0 {
		return nil, net.ErrClosed
	}
	l.left--
	return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
}

func TestWithoutDescriptorsTheAcceptLoopBacksOffInsteadOfSpinning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reasons := 0
		a := &Acceptor{Listener: &exhausted{left: 12}, Handle: greet, OnError: func(reason string) {
			if reason != "exhausted" {
				t.Errorf("reason %q", reason)
			}
			reasons++
		}}
		began := time.Now()
		if err := a.Run(context.Background()); err != nil {
			t.Fatal(err)
		}
		// 5, 10, 20 … 640 ms, then a second each.
		if took := time.Since(began); took != 1275*time.Millisecond+4*time.Second || reasons != 12 {
			t.Errorf("12 failures took %v, %d were reported", took, reasons)
		}
	})
}
