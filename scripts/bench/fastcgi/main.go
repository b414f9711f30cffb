// Command fastcgi measures how much processor time a request to php-fpm takes in front of it: in nginx and in Cutover, with the same
// php-fpm in one run; and one to a target that speaks HTTP, over connections that are kept. It prints a table.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

const bar = 1.5

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// bench is one run.
type bench struct {
	php, nginx, cutover, dir string
	requests                 int // of each measurement
	rounds                   int
	strict                   bool
	out                      io.Writer

	fpm    *process
	target *process // that speaks HTTP
}

// front is what stands before php-fpm.
type front struct {
	name  string
	start func(b *bench, ctx context.Context) (*process, error)
	http  bool // before the target that speaks HTTP
}

// load is what is asked for.
type load struct {
	name, path string
	body       int
	answer     int // bytes
}

// figure is what one request took, in the median of the rounds.
type figure struct{ front, behind time.Duration }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	b := bench{out: stdout}
	flags := flag.NewFlagSet("fastcgi", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&b.php, "php", "", "php-fpm's program")
	flags.StringVar(&b.nginx, "nginx", "", "nginx's program")
	flags.IntVar(&b.requests, "requests", 20_000, "requests of each measurement")
	flags.IntVar(&b.rounds, "rounds", 5, "how often everything is measured; the median counts")
	flags.BoolVar(&b.strict, "strict", false, "a bar that is missed is an error")
	flags.StringVar(&b.cutover, "cutover", "", "Cutover's program")
	serve := flags.Bool("serve", false, "for the program itself: be a front that answers by itself")
	target := flags.Bool("target", false, "for the program itself: be a target that speaks HTTP")
	if flags.Parse(args) != nil {
		return 2
	}
	if *serve {
		return report(stderr, serveGo(ctx))
	}
	if *target {
		return report(stderr, serveTarget(ctx))
	}
	if b.php == "" || b.nginx == "" || b.cutover == "" {
		flags.Usage()
		return 2
	}
	return report(stderr, b.measure(ctx))
}

func report(stderr io.Writer, err error) int {
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// measure measures all, each front in turn in every round, so that a busy moment of the machine hits all alike.
func (b *bench) measure(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "cutover-fastcgi-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err := os.Chmod(b.dir, 0o755); err != nil { //nolint:gosec // workers of nginx may be other users
		return err
	}
	if b.fpm, err = b.startPHP(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.fpm.stop()) }()
	if b.target, err = startTarget(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.target.stop()) }()
	fronts := []front{
		{"nginx", startNginx(0), false},
		{"cutover", startCutover(0), false},
		{"nginx, kept", startNginx(workers), false},
		{"cutover, kept", startCutover(workers), false},
		{"nginx, HTTP", (*bench).startNginxHTTP, true},
		{"cutover, HTTP", (*bench).startCutoverHTTP, true},
		{"go", func(_ *bench, ctx context.Context) (*process, error) { return startGo(ctx) }, false},
	}
	loads := []load{{"1 KB page", "/small.php", 0, 1000}, {"100 KB page", "/large.php", 0, 100_000}, {"1 KB form", "/small.php", 1000, 1000}}
	all := map[string][]figure{}
	for range b.rounds {
		for _, f := range fronts {
			if err := b.round(ctx, f, loads, all); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
	}
	return b.table(loads, all)
}

// round measures one front with all loads.
func (b *bench) round(ctx context.Context, f front, loads []load, all map[string][]figure) (err error) {
	p, err := f.start(b, ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	behind := b.fpm
	if f.http {
		behind = b.target
	}
	for _, l := range loads {
		if err := ask(ctx, l, b.requests/20); err != nil { // warm
			return err
		}
		front, behindIt := p.used(), behind.used()
		if err := ask(ctx, l, b.requests); err != nil {
			return err
		}
		n := time.Duration(b.requests)
		all[f.name+l.name] = append(all[f.name+l.name], figure{(p.used() - front) / n, (behind.used() - behindIt) / n})
	}
	return nil
}

func median(figures []figure, of func(figure) time.Duration) time.Duration {
	sorted := make([]time.Duration, 0, len(figures))
	for _, f := range figures {
		sorted = append(sorted, of(f))
	}
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// table prints what was measured; the ratio that counts is that of the fronts, without what is behind them. "Go's server and reverse proxy" is
// what those take with an answer that is there.
func (b *bench) table(loads []load, all map[string][]figure) error {
	front := func(f figure) time.Duration { return f.front }
	whole := func(f figure) time.Duration { return f.front + f.behind }
	missed := 0
	fmt.Fprintf(b.out, "| processor time a request, %d × %d requests | nginx | Cutover | Go's server and reverse proxy alone | ratio | with what is behind, ratio | bar %.1f |\n|---|---|---|---|---|---|---|\n", b.rounds, b.requests, bar)
	for _, l := range loads {
		for _, kind := range []string{"", ", kept", ", HTTP"} {
			nginx, ours, alone := all["nginx"+kind+l.name], all["cutover"+kind+l.name], all["go"+l.name]
			ratio := float64(median(ours, front)) / float64(median(nginx, front))
			total := float64(median(ours, whole)) / float64(median(nginx, whole))
			held := "held"
			if ratio > bar {
				held = "missed"
				missed++
			}
			fmt.Fprintf(b.out, "| %s%s | %v | %v | %v | %.2f | %.2f | %s |\n", l.name, kind, round(median(nginx, front)), round(median(ours, front)), round(median(alone, front)), ratio, total, held)
		}
	}
	if missed > 0 && b.strict {
		return fmt.Errorf("%d bars are missed", missed)
	}
	return nil
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Nanosecond) }
