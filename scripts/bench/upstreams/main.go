// Command upstreams measures what visitors notice when targets fail, on the real program, and prints a table: targets that
// refuse, vanish, come back, or answer in every wrong way, under load. It needs root, for a network of its own in which
// machines can vanish. scripts/bench/upstreams.sh runs it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
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

// options is what is measured, and how.
type options struct {
	binary  string // the cutover to measure
	short   bool
	strict  bool
	within  time.Duration
	only    []string
	inside  bool // the network of its own is there
	raw     string
	summary string
}

// parts are what can be measured, in this order.
func parts() []string { return []string{"refused", "black-hole", "faults"} }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return exitUsage // the flag package has told
	}
	ctx, cancel := context.WithTimeout(ctx, o.within)
	defer cancel()
	if o.inside {
		err = o.measure(ctx, stdout, stderr)
	} else {
		err = insideNetwork(ctx, args, stdout, stderr)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !o.inside && errors.As(err, &exit): // it has told
	default:
		fmt.Fprintln(stderr, "upstreams:", err)
	}
	return exitFailed
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("upstreams", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.binary, "binary", "", "the cutover to measure")
	flags.BoolVar(&o.short, "short", false, "smaller numbers, for CI")
	flags.BoolVar(&o.strict, "strict", false, "a bar that is missed is an error, but for times, since the machine may be shared")
	flags.DurationVar(&o.within, "within", 10*time.Minute, "it ends by then, as an error")
	only := flags.String("only", "", "parts, separated by commas: "+strings.Join(parts(), ", "))
	flags.StringVar(&o.raw, "json", "", "a file for all that was measured")
	flags.StringVar(&o.summary, "summary", "", "a file for the table alone")
	flags.BoolVar(&o.inside, "inside", false, "this process has a network of its own already")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.binary == "" || flags.NArg() > 0 {
		err = errors.New("-binary is needed, and nothing but flags")
	}
	if *only != "" {
		o.only = strings.Split(*only, ",")
	}
	for _, name := range o.only {
		if !slices.Contains(parts(), name) {
			err = fmt.Errorf("there is no part %q; there are: %s", name, strings.Join(parts(), ", "))
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "upstreams:", err)
	}
	return o, err
}

func (o *options) wants(part string) bool { return len(o.only) == 0 || slices.Contains(o.only, part) }

// measured is all that was measured.
type measured struct {
	Away   []away   `json:"away,omitempty"`
	Faults []faulty `json:"faults,omitempty"`
	Left   *left    `json:"left,omitempty"`
}

// measure prints the table. What was measured before an error is printed, too.
func (o *options) measure(ctx context.Context, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "cutover-upstreams-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left of it is in the folder for such things
	b := &bench{sizes: full(), log: stderr}
	if o.short {
		b.sizes = short()
	}
	if b.subject, err = startSubject(ctx, o.binary, dir); err != nil {
		return err
	}
	var m measured
	err = errors.Join(b.measure(ctx, o, &m), b.subject.stop())
	t := printTable(stdout, o.short, m)
	err = errors.Join(err, write(o.summary, []byte(t.text.String())))
	if o.raw != "" {
		text, wrong := json.MarshalIndent(m, "", " ")
		err = errors.Join(err, wrong, write(o.raw, text))
	}
	if missed := t.missed - t.times; missed > 0 && o.strict {
		err = errors.Join(err, fmt.Errorf("%d bars are missed, beside times", missed))
	}
	return err
}

// write writes a file for all to read, if it has a name.
func write(path string, text []byte) error {
	if path == "" {
		return nil
	}
	return os.WriteFile(path, text, 0o644) //nolint:gosec // figures are for all
}

// bench is one run of all measurements.
type bench struct {
	sizes

	subject *subject
	log     io.Writer
}

// sizes are what differs between the full measurement and the short one.
type sizes struct {
	calm, away, back time.Duration // before a target fails, while it does, and after
	faults           time.Duration
}

func full() sizes {
	return sizes{calm: 5 * time.Second, away: 30 * time.Second, back: 16 * time.Second, faults: 30 * time.Second}
}

func short() sizes {
	return sizes{calm: 2 * time.Second, away: 6 * time.Second, back: 3 * time.Second, faults: 8 * time.Second}
}

func (b *bench) step(format string, arguments ...any) {
	fmt.Fprintf(b.log, "upstreams: "+format+"\n", arguments...)
}

func (b *bench) measure(ctx context.Context, o *options, m *measured) error {
	for _, how := range []string{"refused", "black-hole"} {
		if !o.wants(how) {
			continue
		}
		b.step("one of three targets: %s", how)
		a, err := b.away(ctx, how)
		if err != nil {
			return fmt.Errorf("%s: %w", how, err)
		}
		m.Away = append(m.Away, a)
	}
	if !o.wants("faults") {
		return nil
	}
	b.step("targets that answer wrongly, in %d ways at once", len(faults()))
	if err := b.faulty(ctx, m); err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	return nil
}

// wait reports whether the time has passed, and not the context.
func wait(ctx context.Context, long time.Duration) bool {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
