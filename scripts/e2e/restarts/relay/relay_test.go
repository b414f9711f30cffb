package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

const each = 40 * time.Millisecond

// between returns both ends of a connection through a relay.
func between(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	target := listen(t)
	r := &Relay{Listener: listen(t), Target: target.Addr().String(), Each: each}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	conn, err := net.Dial("tcp", r.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client = conn.(*net.TCPConn)
	if server, err = target.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.TCPConn{client, server} {
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return client, server
}

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.(*net.TCPListener)
}

func TestABytesWayAndBackTakesARoundTrip(t *testing.T) {
	client, server := between(t)
	go func() { _, _ = io.CopyN(server, server, 10) }() // ends with the connection at the latest
	buffer := make([]byte, 5)
	for i := range 2 {
		began := time.Now()
		if _, err := client.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, buffer); err != nil || string(buffer) != "hello" {
			t.Fatalf("%q, %v", buffer, err)
		}
		if took := time.Since(began); took < 2*each {
			t.Errorf("round trip %d took %v", i, took)
		}
	}
}

func TestTheEndOfOneSideLeavesTheOtherSideOpen(t *testing.T) {
	client, server := between(t)
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(server); err != nil || len(rest) > 0 {
		t.Fatalf("%q, %v", rest, err)
	}
	if _, err := io.WriteString(server, "after the end"); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	if got, err := io.ReadAll(client); err != nil || string(got) != "after the end" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestAResetStaysAReset(t *testing.T) {
	client, server := between(t)
	began := time.Now()
	_ = server.SetLinger(0)
	_ = server.Close()
	_, err := client.Read(make([]byte, 1))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v", err)
	}
	if took := time.Since(began); took < each*9/10 { // the clocks of two processors may differ a little
		t.Errorf("it came after %v", took)
	}
}

func TestWhatIsWrittenToAServerThatHasGoneIsAnsweredByAReset(t *testing.T) {
	client, server := between(t)
	_ = server.Close()
	if _, err := io.ReadAll(client); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		_, err := io.WriteString(client, "x")
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
			return
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("after writing to nobody: %v", err)
		}
	}
}

func TestAMegabyteComesWholeAndInOrder(t *testing.T) {
	client, server := between(t)
	text := strings.Repeat("0123456789abcdef", 1<<16)
	go func() {
		_, _ = io.WriteString(client, text)
		_ = client.CloseWrite()
	}()
	got, err := io.ReadAll(server)
	if err != nil || string(got) != text {
		t.Errorf("%d bytes of %d, %v", len(got), len(text), err)
	}
}
