package system

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestMain lets this program be the web services and the load inside a box, too.
func TestMain(m *testing.M) {
	if name := os.Getenv("E2E_SERVICE"); name != "" {
		os.Exit(serve(name, os.Getenv("E2E_ADDRESS")))
	}
	if seconds := os.Getenv("E2E_LOAD"); seconds != "" {
		os.Exit(load(seconds))
	}
	os.Exit(m.Run())
}

// serve answers with its name; a body that was sent is read first, and counted.
func serve(name, address string) int {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body) // a short count shows in the answer
		fmt.Fprintf(w, "%s: %s %s%s over %s, %d bytes\n", name, r.Method, r.Host, r.URL.RequestURI(), r.Header.Get("X-Forwarded-Proto"), n)
	})
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	return 1
}
