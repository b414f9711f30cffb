package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

const editCount = 200

// edits measures from the COMMIT of a sqlite3 program to the first request that obeys.
func (b *bench) edits(ctx context.Context) error {
	t := startTargets()
	defer t.close()
	b.step("editing with sqlite3, %d times", editCount)
	if err := b.pointTargets(ctx, t); err != nil {
		return err
	}
	d, err := b.startDaemon(ctx, b.large(), hostName(0))
	if err != nil {
		return err
	}
	times, err := d.edit(ctx)
	if err = errors.Join(err, d.stop()); err != nil {
		return err
	}
	slices.Sort(times)
	p99 := times[len(times)*99/100]
	b.line(fmt.Sprintf("sqlite3's COMMIT to the new decision, p99 of %d edits", editCount),
		fmt.Sprintf("%.1f ms, median %.1f ms", p99.Seconds()*1000, times[len(times)/2].Seconds()*1000), "12 ms", p99 <= 12*time.Millisecond)
	return nil
}

// pointTargets lets the large database lead to new targets.
func (b *bench) pointTargets(ctx context.Context, t *targets) error {
	statement := fmt.Sprintf("UPDATE targets SET url='%s' WHERE upstream='v1'; UPDATE targets SET url='%s' WHERE upstream='v2'", t.v1.URL, t.v2.URL)
	output, err := exec.CommandContext(ctx, "sqlite3", "-cmd", ".timeout 5000", filepath.Join(b.large(), "rules.db"), statement).CombinedOutput()
	if err != nil {
		return fmt.Errorf("sqlite3: %w: %s", err, output)
	}
	return nil
}

func (d *daemon) edit(ctx context.Context) (times []time.Duration, err error) {
	prompt := exec.CommandContext(ctx, "sqlite3", "-cmd", ".timeout 5000", filepath.Join(d.dir, "rules.db"))
	in, err := prompt.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := prompt.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := prompt.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for n := range editCount {
		host, percent, want := hostName(n*17), 100, "v2"
		if _, err := fmt.Fprintf(in, "UPDATE rules SET percent=%d WHERE host='%s'; SELECT 'done';\n", percent, host); err != nil {
			return nil, err
		}
		if !lines.Scan() || lines.Text() != "done" {
			return nil, fmt.Errorf("sqlite3 said %q", lines.Text())
		}
		began := time.Now()
		if err := d.until(ctx, host, want); err != nil {
			return nil, err
		}
		times = append(times, time.Since(began))
	}
	_, _ = io.WriteString(in, ".quit\n")
	return times, prompt.Wait()
}

// until asks until a version answers for a host.
func (d *daemon) until(ctx context.Context, host, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		got, err := d.ask(ctx, host)
		if err != nil {
			return err
		}
		if got == want {
			return nil
		}
	}
}
