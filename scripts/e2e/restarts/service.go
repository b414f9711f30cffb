package main

import (
	"context"
	"flag"
	"io"

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
	return target.Serve(ctx, *name, *address)
}
