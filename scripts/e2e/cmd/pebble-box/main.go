// Command pebble-box runs Pebble until it is told to end: for tests in which Cutover runs on a machine of its own. It
// writes the roots of its own https and of the certificates that it issues to files, then prints the directory's URL.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"cutover/scripts/e2e/pebble"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx)
	stop()
	os.Exit(code)
}

func run(ctx context.Context) int {
	root := flag.String("root", "pebble-root.pem", "file for the root of the directory's own https")
	issuer := flag.String("issuer", "pebble-issuer.pem", "file for the root of the issued certificates")
	names := flag.String("names", "127.0.0.1:0", "where to answer DNS")
	manage := flag.String("manage", "", "where TXT records are set by HTTP: POST /set-txt and /clear-txt")
	broken := flag.String("broken", "", "a name whose validation fails, after some seconds")
	flag.Parse()
	server, err := pebble.Start(pebble.Options{HTTPPort: 80, TLSPort: 443, Names: *names, Manage: *manage, Slow: 4 * time.Second})
	if err == nil {
		err = errors.Join(os.WriteFile(*root, server.Root(), 0o644), os.WriteFile(*issuer, server.Issuer(), 0o644))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pebble-box:", err)
		return 1
	}
	server.Break(*broken, *broken != "")
	fmt.Fprintln(os.Stdout, server.Directory())
	<-ctx.Done()
	if err := server.Close(); err != nil {
		return 1
	}
	return 0
}
