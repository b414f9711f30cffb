package admin

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// overTCP serves s and returns its URL.
func overTCP(t *testing.T, s *Server) string {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	runUntilEnd(t, func(ctx context.Context) error { return s.ServeTCP(ctx, listener) })
	return "http://" + listener.Addr().String()
}

func ask(t *testing.T, url, authorization string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestOverTCPOnlyHealthNeedsNoKey(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "cutover_up 1\n") })
	url := overTCP(t, &Server{Store: openStore(t), Metrics: metrics, Keys: keyFile(t, keyLine("grafana", "secret-1"))})
	if code, _ := ask(t, url+"/healthz", ""); code != http.StatusOK {
		t.Errorf("/healthz without a key: %d", code)
	}
	for _, path := range []string{"/metrics", "/readyz", "/v1/status", "/v1/rules", "/v1/edits", "/nothing", "//healthz", "/healthz/"} {
		for _, authorization := range []string{"", "Bearer wrong", "Bearer", "Basic secret-1", "secret-1"} {
			if code, body := ask(t, url+path, authorization); code != http.StatusUnauthorized || !strings.Contains(body, `"hint"`) {
				t.Errorf("%s with %q: %d %s", path, authorization, code, body)
			}
		}
	}
	for _, scheme := range []string{"Bearer ", "bearer "} {
		if code, body := ask(t, url+"/metrics", scheme+"secret-1"); code != http.StatusOK || body != "cutover_up 1\n" {
			t.Errorf("/metrics with the key: %d %s", code, body)
		}
	}
}
