package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"cutover/scripts/e2e/restarts/target"
)

// runService is the web service behind, until ctx ends.
func runService(ctx context.Context, args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("restarts service", flag.ContinueOnError)
	flags.SetOutput(stderr)
	name := flags.String("name", "v1", "what the service calls itself")
	address := flags.String("listen", "127.0.0.1:9001", "address to listen on")
	if err := flags.Parse(args); err != nil {
		return &usageError{err}
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", *address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	// A connection that is kept here longer than by the proxy cannot be closed under a request of the proxy's.
	server := &http.Server{Handler: target.Handler(*name), ReadHeaderTimeout: time.Minute, IdleTimeout: time.Hour}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
