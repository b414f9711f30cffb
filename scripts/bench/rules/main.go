// Command rules measures what the rules promise, on the real program and the real sqlite3, and prints a table. Every bar is
// a ratio or a difference within one run, since machines differ and are shared.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// bench is one run of all measurements.
type bench struct {
	binary string // cutover
	dir    string // for state directories
	rows   int
	rounds int // of each start
	log    io.Writer
	out    io.Writer
	missed int // bars
}

type measurement struct {
	name string
	run  func(context.Context) error
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	b := bench{log: stderr, out: stdout}
	flags := flag.NewFlagSet("rules", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&b.binary, "binary", "", "the cutover to measure")
	flags.StringVar(&b.dir, "dir", "", "a folder for databases; what is in it is removed")
	flags.IntVar(&b.rows, "rows", 1_000_000, "rules in the large database")
	only := flags.String("only", "", "measure only starts, matches, edits, commits or imports")
	flags.IntVar(&b.rounds, "rounds", 7, "starts of each kind; the median counts")
	if flags.Parse(args) != nil || b.binary == "" || b.dir == "" {
		return 2
	}
	fmt.Fprintf(b.out, "| what, at %d rules | measured | bar | |\n|---|---|---|---|\n", b.rows)
	for _, m := range []measurement{{"starts", b.starts}, {"matches", b.matches}, {"edits", b.edits}, {"commits", b.groupCommit}, {"imports", b.imports}} {
		if *only != "" && *only != m.name {
			continue
		}
		if err := m.run(ctx); err != nil {
			fmt.Fprintln(stderr, "bench:", err)
			return 1
		}
	}
	if b.missed > 0 {
		fmt.Fprintf(stderr, "%d bars are missed\n", b.missed)
	}
	return 0
}

// line prints a row of the table.
func (b *bench) line(what, measured, bar string, held bool) {
	verdict := "held"
	if !held {
		verdict = "missed"
		b.missed++
	}
	fmt.Fprintf(b.out, "| %s | %s | %s | %s |\n", what, measured, bar, verdict)
}

func (b *bench) step(format string, args ...any) { fmt.Fprintf(b.log, "bench: "+format+"\n", args...) }
