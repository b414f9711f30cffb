package frontend

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// client2 opens a connection of x/net's HTTP/2 client, which can be asked for a PING.
func (s *site) client2(t *testing.T) *http2.ClientConn { //nolint:staticcheck // net/http's own ClientConn has no Ping
	t.Helper()
	conn, err := tls.Dial("tcp", s.secure.Addr().String(), &tls.Config{RootCAs: s.roots, ServerName: "shop.example.com", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	client, err := (&http2.Transport{}).NewClientConn(conn) //nolint:staticcheck // the same
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// pings is more than an allowance has, at the pace of a loopback.
const pings = 3000

// As clients do that measure their bandwidth and the way's delay (gRPC for Go, hyper): a PING with a piece of what comes,
// and the next when that is answered.
func TestAClientThatPingsInStepWithItsDownloadIsNoFlood(t *testing.T) {
	s, counted := newSite(t), &reasons{}
	s.serve(t, Options{OnRefused: counted.add, Handler: http.HandlerFunc(pour)})
	client := s.client2(t)
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://shop.example.com/", nil)
	answer, err := client.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	for i := range pings {
		_, err := io.ReadFull(answer.Body, make([]byte, 4<<10))
		if err == nil {
			err = client.Ping(t.Context())
		}
		if err != nil {
			t.Fatalf("after %d: %v; counted as %v", i, err, counted.all())
		}
	}
}

func TestAClientThatPingsInStepWithItsUploadIsNoFlood(t *testing.T) {
	s, counted := newSite(t), &reasons{}
	s.serve(t, Options{OnRefused: counted.add, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })})
	client := s.client2(t)
	body, upload := io.Pipe()
	request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://shop.example.com/", body)
	asked := make(chan error, 1)
	go func() {
		answer, err := client.RoundTrip(request)
		if err == nil {
			_ = answer.Body.Close()
		}
		asked <- err
	}()
	for i := range pings {
		_, err := upload.Write(make([]byte, 4<<10))
		if err == nil {
			err = client.Ping(t.Context())
		}
		if err != nil {
			t.Errorf("after %d: %v; counted as %v", i, err, counted.all())
			break
		}
	}
	_ = upload.Close()
	if err := <-asked; err != nil && len(counted.all()) == 0 {
		t.Errorf("the upload: %v", err)
	}
}

// Each frame of it is small, and none is empty.
func TestPingsBeyondWhatDataHasEarnedAreAFlood(t *testing.T) {
	f := newFlood(128)
	now := time.Now()
	f.follow(make([]byte, prefaceLength), now)
	ping := []byte{0, 0, 8, framePing, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}
	data := []byte{0, 0, 1, frameData, 0, 0, 0, 0, 1, 'x'}
	for i := range 2000 {
		f.follow(data, now)
		if reason := f.follow(ping, now); reason != "" {
			if reason != PingFlood || i < 500 {
				t.Errorf("after %d: %s", i, reason)
			}
			return
		}
	}
	t.Error("it was let go on")
}
