package system

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this program be the web services, the load and the bad releases inside a box, too.
func TestMain(m *testing.M) {
	if name := os.Getenv("E2E_SERVICE"); name != "" {
		os.Exit(serve(name, os.Getenv("E2E_ADDRESS")))
	}
	if seconds := os.Getenv("E2E_LOAD"); seconds != "" {
		os.Exit(load(seconds))
	}
	if fault := os.Getenv("E2E_FAULT"); fault != "" {
		os.Exit(fail(fault))
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

// fail is a release that goes wrong after its start: it hangs before it is ready, or dies a while after.
func fail(fault string) int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if fault == "hangs" {
		<-stop
		return 1
	}
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if _, err := io.WriteString(c, "READY=1"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	select {
	case <-stop:
	case <-time.After(500 * time.Millisecond):
	}
	fmt.Fprintln(os.Stderr, "this release dies after it was ready")
	return 1
}
