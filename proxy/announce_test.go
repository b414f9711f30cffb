package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"cutover/rules"
)

// tellsWho is a target that says whom the PROXY protocol has named to it.
func tellsWho(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s to %s", r.RemoteAddr, r.Context().Value(http.LocalAddrContextKey))
	}))
	server.Listener = &proxyproto.Listener{Listener: server.Listener}
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

func TestATargetLearnsTheVisitorByThePROXYProtocol(t *testing.T) {
	url := tellsWho(t)
	for _, version := range []rules.ProxyProtocol{rules.ProxyProtocolV1, rules.ProxyProtocolV2} {
		for _, trusted := range []bool{false, true} {
			s := newSite(t, says(""), nil, func(s *site) {
				s.rows.Upstreams[0].Targets[0].URL, s.rows.Upstreams[0].ProxyProtocol = url, version
				if trusted {
					s.handler.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
				}
			})
			c := s.dial(t)
			write(t, c, "GET / HTTP/1.1\nHost: a.test\nX-Forwarded-For: 203.0.113.9\nConnection: close\n\n")
			answer, err := io.ReadAll(c)
			from := c.LocalAddr().String()
			if trusted {
				from = "203.0.113.9:0"
			}
			want := from + " to " + c.RemoteAddr().(*net.TCPAddr).String()
			if got := bodyOf(string(answer)); err != nil || got != want {
				t.Errorf("%s, trusted %v: %q, %v, want %q", version, trusted, got, err, want)
			}
		}
	}
}

func TestVisitorsNeverShareAConnectionThatNamesOne(t *testing.T) {
	url := tellsWho(t)
	s := newSite(t, says(""), nil, func(s *site) {
		s.rows.Upstreams[0].Targets[0].URL, s.rows.Upstreams[0].ProxyProtocol = url, rules.ProxyProtocolV2
		trustLoopback(s)
	})
	for n := range 20 {
		client := fmt.Sprintf("203.0.113.%d", n+1)
		a := s.get(t, "a.test", "/", func(r *http.Request) { r.Header.Set("X-Forwarded-For", client) })
		if want := client + ":0 to " + s.Listener.Addr().String(); a.body != want {
			t.Errorf("%q, want %q", a.body, want)
		}
	}
}

// bodyOf returns what follows the header of an answer.
func bodyOf(answer string) string {
	_, body, _ := strings.Cut(answer, "\r\n\r\n")
	return body
}
