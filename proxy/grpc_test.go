package proxy

import (
	"net/http"
	"strings"
	"testing"

	"cutover/rules"
)

func TestAClientOfGRPCIsToldOfAFailureInItsOwnTerms(t *testing.T) {
	s := newSite(t, says("v1"), nil, nil)
	s.rows.Upstreams[0].Targets = []rules.Target{{ID: 1, URL: "http://127.0.0.1:1", Weight: 1, State: rules.StateReady}}
	s.publish(t)
	for kind, want := range map[string]string{
		"application/grpc": "14", "application/grpc+proto": "14", "application/grpc;charset=utf-8": "14",
		"application/grpc-web": "", "application/json": "",
	} {
		a := s.get(t, "a.test", "/service/Call", func(r *http.Request) {
			r.Method = http.MethodPost
			r.Header.Set("Content-Type", kind)
		})
		if got := a.Header.Get("Grpc-Status"); got != want || (want == "") != (a.StatusCode == http.StatusBadGateway) {
			t.Errorf("%s: %d with Grpc-Status %q", kind, a.StatusCode, got)
		}
		if message := a.Header.Get("Grpc-Message"); want != "" && (!strings.HasPrefix(message, "502 Bad Gateway") || !strings.Contains(message, a.Header.Get("X-Request-Id"))) {
			t.Errorf("%s: the message is %q", kind, message)
		}
	}
}
