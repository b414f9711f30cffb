package proxy

import (
	"fmt"
	"net/http"
	"strings"
)

// Status codes of gRPC, and what they stand for where an answer of HTTP has none (gRPC's http-grpc-status-mapping).
const (
	grpcUnknown          = 2
	grpcPermissionDenied = 7
	grpcUnimplemented    = 12
	grpcInternal         = 13
	grpcUnavailable      = 14
	grpcUnauthenticated  = 16
)

func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest:
		return grpcInternal
	case http.StatusUnauthorized:
		return grpcUnauthenticated
	case http.StatusForbidden:
		return grpcPermissionDenied
	case http.StatusNotFound:
		return grpcUnimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return grpcUnavailable
	}
	return grpcUnknown
}

// isGRPC reports whether who asks reads an answer's status in Grpc-Status. That of gRPC-Web does not.
func isGRPC(r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && r.Method == http.MethodPost && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// answerGRPC is a page for a client that would show nothing of one: an answer of headers alone. Logs and metrics have the status
// that others get.
func (h *Handler) answerGRPC(e *exchange, status int) {
	header := e.out.Header()
	header.Set("Content-Type", "application/grpc")
	header.Set("Grpc-Status", fmt.Sprint(grpcStatus(status)))
	header.Set("Grpc-Message", fmt.Sprintf("%d %s by the proxy, request %s", status, http.StatusText(status), e.id))
	h.countAnswer(e, status)
	e.out.WriteHeader(http.StatusOK)
	e.out.status = status
}
