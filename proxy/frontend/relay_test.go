package frontend

import (
	"net"
	"sync"
	"testing"
	"time"
)

// relayed returns an address from which everything reaches target, and comes back, a while later: what crosses on the
// wire shows only where the wire is long.
func relayed(t *testing.T, target string, each time.Duration) string {
	t.Helper()
	listener := listen(t)
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { relay(client, target, each) })
		}
	})
	return listener.Addr().String()
}

func relay(client net.Conn, target string, each time.Duration) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var both sync.WaitGroup
	both.Go(func() { delay(server.(*net.TCPConn), client, each) })
	both.Go(func() { delay(client.(*net.TCPConn), server, each) })
	both.Wait()
}

// parcel is what was read at a time; no bytes stand for the end.
type parcel struct {
	bytes []byte
	at    time.Time
}

// delay copies from one connection to the other, each byte and the end a while after it came.
func delay(to *net.TCPConn, from net.Conn, each time.Duration) {
	parcels := make(chan parcel, 4096)
	go func() {
		defer close(parcels)
		for {
			buffer := make([]byte, 16<<10)
			n, err := from.Read(buffer)
			parcels <- parcel{buffer[:n], time.Now()}
			if err != nil {
				return
			}
		}
	}()
	failed := false
	for p := range parcels {
		<-time.After(time.Until(p.at.Add(each)))
		if _, err := to.Write(p.bytes); err != nil && !failed {
			failed = true
			_ = from.Close() // as a reset comes back
		}
	}
	_ = to.CloseWrite() // what cannot be closed is closed already
}
