package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"cutover/proxy/admin"
	"cutover/rules/store"
)

// imports measures a large import into a cutover that serves, by its command line, and what visitors and editors feel.
func (b *bench) imports(ctx context.Context) error {
	b.step("importing %d rules: raw, then into a cutover that serves", b.rows)
	raw, err := b.rawImport(ctx)
	if err != nil {
		return err
	}
	t := startTargets()
	defer t.close()
	dir := filepath.Join(b.dir, "import")
	if err := makeEmpty(ctx, dir, t); err != nil {
		return err
	}
	file := filepath.Join(b.dir, "rules.csv")
	if err := writeCSV(file, b.rows); err != nil {
		return err
	}
	d, err := b.startDaemon(ctx, dir, "probe.example")
	if err != nil {
		return err
	}
	return errors.Join(b.importInto(ctx, d, file, raw), d.stop())
}

// rawImport is the same rows by SQL alone, in one transaction, triggers and all.
func (b *bench) rawImport(ctx context.Context) (took time.Duration, err error) {
	dir := filepath.Join(b.dir, "raw")
	if err := makeEmpty(ctx, dir, nil); err != nil {
		return 0, err
	}
	err = inDatabase(dir, func(db *sql.DB) error {
		took, err = insertRules(ctx, db, b.rows, b.rows)
		return err
	})
	return took, err
}

func writeCSV(path string, rows int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	fmt.Fprintln(w, "host,percent")
	for n := range rows {
		fmt.Fprintf(w, "%s,0\n", hostName(n))
	}
	return errors.Join(w.Flush(), file.Close())
}

func (b *bench) importInto(ctx context.Context, d *daemon, file string, raw time.Duration) error {
	idle, err := d.latencies(ctx, func() error { return rest(ctx, 3*time.Second) })
	if err != nil {
		return err
	}
	var took, slowest time.Duration
	edits := 0
	busy, err := d.latencies(ctx, func() error {
		began := time.Now()
		done := make(chan struct{})
		var editing sync.WaitGroup
		var editFailed error
		editing.Go(func() { edits, slowest, editFailed = d.editMeanwhile(ctx, done) })
		command := exec.CommandContext(ctx, b.binary, "rules", "import", file, "--append")
		command.Env = append(os.Environ(), environment(d.dir)...)
		output, err := command.CombinedOutput()
		took = time.Since(began)
		close(done)
		editing.Wait()
		if err != nil {
			err = fmt.Errorf("import: %w\n%s", err, output)
		}
		return errors.Join(err, editFailed)
	})
	if err != nil {
		return err
	}
	ratio := took.Seconds() / raw.Seconds()
	b.line("an import while serving", fmt.Sprintf("%.1f s, %.2f × raw SQL's %.1f s", took.Seconds(), ratio, raw.Seconds()), "1.5 ×", ratio <= 1.5)
	b.difference("p99 of requests meanwhile, more than idle", busy-idle, 2*time.Millisecond)
	b.line("edits over the admin socket meanwhile", fmt.Sprintf("%d made, the slowest in %.0f ms", edits, slowest.Seconds()*1000), "none fails", true)
	began := time.Now()
	output, err := exec.CommandContext(ctx, "sqlite3", "-cmd", ".timeout 5000", filepath.Join(d.dir, "rules.db"),
		"UPDATE rules SET percent=100 WHERE host='"+hostName(7)+"'").CombinedOutput()
	if err != nil {
		return fmt.Errorf("sqlite3: %w: %s", err, output)
	}
	committed := time.Now()
	if err := d.until(ctx, hostName(7), "v2"); err != nil {
		return err
	}
	b.step("the sqlite3 program took %v", committed.Sub(began))
	b.difference("a sqlite3 edit after it", time.Since(committed), 12*time.Millisecond)
	return nil
}

// editMeanwhile makes an edit ten times a second until done, and returns how many and how long the slowest took.
func (d *daemon) editMeanwhile(ctx context.Context, done <-chan struct{}) (made int, slowest time.Duration, err error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	client := admin.Dial(filepath.Join(d.dir, "admin.sock"))
	defer client.Close()
	for {
		select {
		case <-done:
			return made, slowest, nil
		case <-tick.C:
		}
		began := time.Now()
		edit := store.Edit{Table: store.TableRules, Row: map[string]any{"host": "meanwhile.example", "percent": made % 100}}
		if _, err := client.Edit(ctx, admin.EditRequest{Edits: []store.Edit{edit}}); err != nil {
			return made, slowest, fmt.Errorf("an edit during the import: %w", err)
		}
		made, slowest = made+1, max(slowest, time.Since(began))
	}
}

// latencies asks two hundred times a second while work runs, and returns the 99th percentile. A request that is due is
// counted from when it was due.
func (d *daemon) latencies(ctx context.Context, work func() error) (p99 time.Duration, err error) {
	done := make(chan struct{})
	var all []time.Duration
	var asking sync.WaitGroup
	var failed error
	asking.Go(func() {
		const every = 5 * time.Millisecond
		for due := time.Now(); ; due = due.Add(every) {
			select {
			case <-done:
				return
			case <-time.After(time.Until(due)):
			}
			if _, err := d.ask(ctx, "probe.example"); err != nil {
				failed = err
				return
			}
			all = append(all, time.Since(due))
		}
	})
	err = work()
	close(done)
	asking.Wait()
	if err = errors.Join(err, failed); err != nil {
		return 0, err
	}
	slices.Sort(all)
	return all[len(all)*99/100], nil
}

func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
