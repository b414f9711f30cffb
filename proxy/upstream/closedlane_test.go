package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// fickle is a target that closes connections when it is told to, and counts what it was asked to do.
type fickle struct {
	url string

	mu    sync.Mutex
	conns []net.Conn
	acted map[string]int // how often, by id
}

func newFickle(t *testing.T) *fickle {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fickle{url: "http://" + listener.Addr().String(), acted: map[string]int{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, conn)
			f.mu.Unlock()
			serving.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		f.close()
		serving.Wait()
	})
	return f
}

func (f *fickle) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for reader := bufio.NewReader(conn); ; {
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.acted[r.URL.Query().Get("id")]++ // whether or not all of the body comes
		f.mu.Unlock()
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

// close closes every connection that there is.
func (f *fickle) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	f.conns = nil
}

// post sends a request that must be acted upon once.
func (f *fickle) post(t *testing.T, p *Pool, method, id, body string) error {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "/?id="+id, struct{ io.Reader }{strings.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = int64(len(body))
	r.Header.Set("Idempotency-Key", id) // by which net/http would send it again
	response, err := p.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func TestNoRequestIsLostSinceItsTargetHasJustClosedTheConnection(t *testing.T) {
	const rounds = 300
	for _, row := range []struct {
		method, body string
		kept         int
	}{
		{http.MethodPost, "short", 64 << 10},
		{http.MethodPost, strings.Repeat("long", 100<<10), 64 << 10},
		{http.MethodPost, "not kept", 0},
		{http.MethodPut, "short", 64 << 10},
		{http.MethodDelete, "", 64 << 10},
	} {
		f := newFickle(t)
		u := upstreamOf(f.url)
		u.RetryBody = row.kept
		p := newSet(t, Options{}).For(u)
		lost := 0
		for n := range rounds {
			if err := f.post(t, p, row.method, fmt.Sprint("before-", n), row.body); err != nil {
				t.Fatal(err)
			}
			f.close()
			if f.post(t, p, row.method, fmt.Sprint("after-", n), row.body) != nil {
				lost++
			}
		}
		t.Logf("%s of %d bytes, %d kept: %d of %d lost", row.method, len(row.body), row.kept, lost, rounds)
		if lost > rounds/10 {
			t.Errorf("%s of %d bytes, %d kept: %d of %d lost", row.method, len(row.body), row.kept, lost, rounds)
		}
		f.actedOnce(t)
	}
}

func TestNoRequestIsActedUponTwiceWhenItsTargetClosesTheConnectionMeanwhile(t *testing.T) {
	f := newFickle(t)
	p := newSet(t, Options{}).For(upstreamOf(f.url))
	for n := range 300 {
		if err := f.post(t, p, http.MethodPost, fmt.Sprint("before-", n), "x"); err != nil {
			continue // what was closed late was this one's
		}
		var closing sync.WaitGroup
		closing.Go(f.close)
		_ = f.post(t, p, http.MethodPost, fmt.Sprint("meanwhile-", n), "x") // it may be lost: nobody knows whether it was acted upon
		closing.Wait()
	}
	f.actedOnce(t)
}

func (f *fickle) actedOnce(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, times := range f.acted {
		if times != 1 {
			t.Errorf("%s was acted upon %d times", id, times)
		}
	}
}

// brittle is a connection on which writing can fail.
type brittle struct {
	net.Conn

	breaks *atomic.Int64 // this many writes
	writes int           // of this connection
	part   int           // of what is to be written is
}

func (b *brittle) Write(p []byte) (int, error) {
	b.writes++
	if b.writes > 1 && b.breaks.Add(-1) >= 0 {
		n, _ := b.Conn.Write(p[:min(len(p), b.part)])
		return n, syscall.EPIPE
	}
	return b.Conn.Write(p)
}

func TestOnlyARequestOfWhichNothingCouldBeWrittenIsSentOverAnotherConnection(t *testing.T) {
	for _, row := range []struct {
		body string
		part int // of the begin of the request is written
		kept int
		want bool
	}{
		{"x", 0, 10, true},
		{"x", 1, 10, false},
		{"", 0, 0, true},
		{strings.Repeat("x", 100<<10), 0, -1, true}, // nothing of a body is read before the header was written
		{strings.Repeat("x", 100<<10), 1, -1, false},
	} {
		f := newFickle(t)
		breaks := new(atomic.Int64)
		lanes := newLanes(func() *http.Transport {
			return &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
				return &brittle{Conn: conn, breaks: breaks, part: row.part}, err
			}}
		})
		send := func(id string) error {
			body := &keptBody{source: io.NopCloser(strings.NewReader(row.body)), most: row.kept}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+"/?id="+id, body.open())
			if err != nil {
				t.Fatal(err)
			}
			if r.ContentLength = int64(len(row.body)); row.body == "" {
				r.Body = nil
			}
			response, err := lanes.RoundTrip(r)
			if err != nil {
				return err
			}
			defer func() { _ = response.Body.Close() }()
			_, err = io.Copy(io.Discard, response.Body)
			return err
		}
		if err := send("first"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the connection to be free", func() bool { lanes.mu.Lock(); defer lanes.mu.Unlock(); return len(lanes.free) == 1 })
		breaks.Store(1)
		if err := send("second"); (err == nil) != row.want {
			t.Errorf("%d bytes, %d written, %d kept: %v", len(row.body), row.part, row.kept, err)
		}
		lanes.CloseIdleConnections()
		f.actedOnce(t)
	}
}
