package proxy

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"strings"
	"sync"
	"testing"

	"cutover/rules"
)

// serveFCGI puts v1 behind FastCGI, on TCP; each connection serves one request, and is closed with it.
func serveFCGI(t *testing.T, s *site, serve func(net.Listener)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { serve(listener) })
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	s.rows.Upstreams[0].Targets = []rules.Target{{ID: 1, URL: "fcgi://" + listener.Addr().String(), Weight: 1, State: rules.StateReady}}
}

func TestAnApplicationBehindFastCGIIsToldWhatTheProxyBelieves(t *testing.T) {
	for _, trusted := range []bool{false, true} {
		s := newSite(t, nil, nil, func(s *site) {
			if trusted {
				trustLoopback(s)
			}
			serveFCGI(t, s, func(l net.Listener) {
				_ = fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_ = json.NewEncoder(w).Encode(map[string]any{"remote": r.RemoteAddr, "tls": r.TLS != nil, "header": r.Header})
				}))
			})
		})
		got := s.get(t, "shop.test", "/a?b", func(r *http.Request) {
			r.Header = http.Header{
				"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "Proxy": {"evil"},
				"X_Forwarded_For": {"evil"}, "Remote_user": {"evil"}, "User-Agent": {"x"},
			}
		})
		var told struct {
			Remote string
			TLS    bool
			Header http.Header
		}
		if err := json.Unmarshal([]byte(got.body), &told); err != nil {
			t.Fatalf("%s: %v", got.body, err)
		}
		host, port, _ := net.SplitHostPort(told.Remote)
		if believed := host == "192.0.2.7" && port == "0" && told.TLS; believed != trusted || strings.Contains(got.body, "evil") {
			t.Errorf("trusted %v: %s", trusted, got.body)
		}
	}
}

func TestAnApplicationThatHasTooManyRequestsIsAnswered503(t *testing.T) {
	s := newSite(t, nil, nil, func(s *site) {
		serveFCGI(t, s, func(l net.Listener) {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 64<<10)) // all of a small request
				_, _ = io.WriteString(c, "\x01\x03\x00\x01\x00\x08\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00")
				_ = c.Close()
			}
		})
	})
	if got := s.get(t, "shop.test", "/", nil); got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
		t.Errorf("%s: %s", got.Status, got.body)
	}
}
