// Command cutover-demo is a small web service that says its own name: the v1 and the v2 that run-dev.sh moves
// traffic between.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("cutover-demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("name", "v1", "what the service calls itself")
	listen := flags.String("listen", "127.0.0.1:9001", "address to listen on")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := serve(ctx, *listen, hello(*name)); err != nil {
		_, _ = fmt.Fprintln(stderr, "cutover-demo:", err)
		return 1
	}
	return 0
}

// hello answers every request with the service's name and what it was asked.
func hello(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintf(w, "%s: %s %s%s over %s for %s\n", name, r.Method, r.Host, r.URL.RequestURI(),
			r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-For"))
	})
}

// serve answers on address until ctx ends.
func serve(ctx context.Context, address string, handler http.Handler) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	closed := server.Close()
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return closed
}
