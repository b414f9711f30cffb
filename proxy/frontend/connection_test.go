package frontend

import (
	"io"
	"net"
	"net/http"
	"testing"
)

func TestARequestThatWaitsInTheKernelIsNoSilence(t *testing.T) {
	listener := listen(t)
	defer func() { _ = listener.Close() }()
	client := dial(t, listener.Addr().String())
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = accepted.Close() }()
	c := (&registry{}).newConnection(accepted) // nobody reads it
	if !c.silent() {
		t.Error("nothing was sent, and yet it is not silent")
	}
	client.send("GET /")
	until(t, "the bytes arrive", func() bool { return !c.silent() })
}

func TestATunnelCanBeCopiedFromSocketToSocketBothWays(t *testing.T) {
	site := newSite(t)
	site.serve(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		into, intoOK := conn.(io.ReaderFrom)
		from, fromOK := conn.(io.WriterTo)
		if !intoOK || !fromOK {
			t.Error("a tunnel in clear text hides the kernel's copying")
			return
		}
		ours, theirs := net.Pipe()
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			_, _ = into.ReadFrom(ours)
		}()
		_, _ = from.WriteTo(theirs)
		_ = theirs.Close()
		<-copied
	})})
	c := dial(t, site.plain.Addr().String())
	c.send("GET / HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
	c.answer()
	c.send("there and back")
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c.in); err != nil || string(got) != "there and back" {
		t.Errorf("%q, %v", got, err)
	}
}
