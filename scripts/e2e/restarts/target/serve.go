package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Serve serves Handler on an address until ctx ends.
func Serve(ctx context.Context, name, address string) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	// A connection that is kept here longer than by the proxy cannot be closed under a request of the proxy's.
	server := &http.Server{Handler: Handler(name), ReadHeaderTimeout: time.Minute, IdleTimeout: time.Hour}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}
