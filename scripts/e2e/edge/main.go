// Command edge measures what strangers can do to cutover.service, on a real systemd in a box, and prints a table: floods
// and slow clients beside a calm load, what scanners find, how HTTP is spoken. It needs root. scripts/bench/edge.sh runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"cutover/scripts/e2e/restarts/target"
)

// Exit codes.
const (
	exitFailed = 1 // it could not be measured, or with -strict: a bar was missed
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	inBox := map[string]func(context.Context, []string, io.Writer, io.Writer) error{
		"service": runService, "ca": runCA, "inside": runInside, "attack": runAttack, "burn": runBurn,
	}
	err := error(nil)
	if len(args) > 0 && inBox[args[0]] != nil {
		err = inBox[args[0]](ctx, args[1:], stdout, stderr)
	} else {
		err = runOutside(ctx, args, stdout, stderr)
	}
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(*usageError)):
		return exitUsage // the flag package has told
	default:
		fmt.Fprintln(stderr, "edge:", err)
		return exitFailed
	}
}

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// parse reads flags, and takes nothing else.
func parse(flags *flag.FlagSet, args []string, stderr io.Writer) error {
	flags.SetOutput(stderr)
	if err := flags.Parse(args); err != nil {
		return &usageError{err}
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "edge: %q is one argument too many\n", flags.Arg(0))
		return &usageError{errors.New("too many arguments")}
	}
	return nil
}

// runService is the web service behind, until ctx ends.
func runService(ctx context.Context, args []string, _, stderr io.Writer) error {
	flags := flag.NewFlagSet("edge service", flag.ContinueOnError)
	address := flags.String("listen", "127.0.0.1:9001", "address to listen on")
	if err := parse(flags, args, stderr); err != nil {
		return err
	}
	return target.Serve(ctx, "v1", *address)
}
