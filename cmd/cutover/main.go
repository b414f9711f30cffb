// Command cutover moves live traffic from a v1 service to a v2 service: domain by domain, path by path, visitor by
// visitor.
//
// It is both the daemon (cutover serve, started by systemd with the sockets already open) and the tool that talks
// to it (cutover rules, cutover status and so on).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"cutover/systemd"
)

func main() {
	// SIGHUP must not kill: every change is live at once, so there is nothing to reload.
	signal.Ignore(syscall.SIGHUP)
	ctx, stop := signal.NotifyContext(systemd.CatchMakeRoom(context.Background()), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
