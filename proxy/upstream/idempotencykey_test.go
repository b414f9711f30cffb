package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dropsSecond is a target that answers the first request of each connection, and closes the connection once it has got the second.
func dropsSecond(t *testing.T, got func(*http.Request)) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { _ = listener.Close() })
	serve := func(c net.Conn) {
		defer func() { _ = c.Close() }()
		reader := bufio.NewReader(c)
		for _, answer := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""} {
			r, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			got(r)
			if _, err = io.WriteString(c, answer); err != nil {
				return
			}
		}
	}
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(c) })
		}
	})
	return "http://" + listener.Addr().String()
}

func TestARequestWithAnIdempotencyKeyIsNotRepeatedByItself(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodPatch, http.MethodDelete} {
		for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
			var requests atomic.Int64
			url := dropsSecond(t, func(r *http.Request) {
				requests.Add(1)
				if r.Header.Get(name) != "a key" || r.ContentLength != 0 || r.TransferEncoding != nil {
					t.Errorf("the target gets %+v, of length %d", r.Header, r.ContentLength)
				}
			})
			p := newSet(t, Options{}).For(upstreamOf(url))
			sent, err := int64(0), error(nil)
			for ; err == nil && sent < 100; sent++ { // a connection that rests for too long is not used again
				if err = sendKeyed(t, p, method, name); err == nil {
					awaitFree(t, p)
				}
			}
			if err == nil || requests.Load() != sent {
				t.Errorf("%s with %s: of %d requests the target gets %d: %v", method, name, sent, requests.Load(), err)
			}
		}
	}
}

func sendKeyed(t *testing.T, p *Pool, method, name string) error {
	t.Helper()
	r, _ := http.NewRequestWithContext(t.Context(), method, "/", nil)
	r.Header.Set(name, "a key")
	response, err := p.RoundTrip(r)
	if r.Header.Get(name) != "a key" {
		t.Error("the visitor's own request is changed")
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}

// awaitFree waits until the connection for requests that may not be repeated can be used again, or is gone.
func awaitFree(t *testing.T, p *Pool) {
	t.Helper()
	lanes := p.targets[0].connections.unrepeatable
	began := time.Now()
	eventually(t, "the connection to be free", func() bool {
		lanes.mu.Lock()
		defer lanes.mu.Unlock()
		return len(lanes.free) > 0 || time.Since(began) > idleUnrepeatable
	})
}
