// Command restarts measures what visitors notice of restarts of cutover.service, on a real systemd in a box, and prints a
// table. It needs root. scripts/bench/restarts.sh runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
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
	var err error
	switch {
	case len(args) > 0 && args[0] == "service": // in the box
		err = runService(ctx, args[1:], stderr)
	case len(args) > 0 && args[0] == "inside": // in the box
		err = runInside(ctx, args[1:], stdout, stderr)
	default:
		err = runOutside(ctx, args, stdout, stderr)
	}
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(*usageError)):
		return exitUsage // the flag package has told
	default:
		fmt.Fprintln(stderr, "restarts:", err)
		return exitFailed
	}
}

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// plan is what is measured at a round-trip time.
type plan struct {
	restarts int
	every    time.Duration // from one restart to the next, unless it takes longer
	bulk     int64         // bytes of a download or an upload
	trip     time.Duration
}

func (p *plan) flags(flags *flag.FlagSet) {
	flags.IntVar(&p.restarts, "restarts", 100, "how many restarts")
	flags.DurationVar(&p.every, "every", 3*time.Second, "time from one restart to the next, unless it takes longer")
	flags.Int64Var(&p.bulk, "bulk", 100_000_000, "bytes of a download or an upload at 0 ms; a tenth of them at other round-trip times")
}

// life is how long streams last: several restarts, but fewer than make the oldest process end (8 may drain at once).
func (p *plan) life() time.Duration { return p.every * 7 / 2 }

// trips reads a list of milliseconds.
func trips(text string) ([]time.Duration, error) {
	var list []time.Duration
	for field := range strings.SplitSeq(text, ",") {
		ms, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || ms < 0 || ms > 1000 {
			return nil, fmt.Errorf("round-trip times are milliseconds from 0 to 1000, separated by commas; %q is none", field)
		}
		list = append(list, time.Duration(ms)*time.Millisecond)
	}
	return list, nil
}
