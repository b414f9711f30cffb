package main

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const snapshotFile = "rules.snapshot"

func (b *bench) large() string { return filepath.Join(b.dir, "large") }

// starts measures from exec to the first proxied answer, and how large the table is.
func (b *bench) starts(ctx context.Context) error {
	t := startTargets()
	defer t.close()
	small := filepath.Join(b.dir, "small")
	for dir, rows := range map[string]int{small: 10, b.large(): b.rows} {
		b.step("making a database of %d rules", rows)
		if err := b.makeDatabase(ctx, dir, rows, t); err != nil {
			return err
		}
	}
	b.step("starting, %d times each", b.rounds)
	few, err := b.medianStart(ctx, small, nil)
	if err != nil {
		return err
	}
	many, err := b.medianStart(ctx, b.large(), nil)
	if err != nil {
		return err
	}
	b.difference("exec to first answer with the snapshot, more than with 10 rules", many-few, 30*time.Millisecond)
	if err := b.startAfterEdits(ctx, few); err != nil {
		return err
	}
	if err := b.startWithout(ctx, few); err != nil {
		return err
	}
	return b.size()
}

// makeDatabase makes a state directory whose snapshot is written.
func (b *bench) makeDatabase(ctx context.Context, dir string, rows int, t *targets) error {
	if err := makeEmpty(ctx, dir, t); err != nil {
		return err
	}
	err := inDatabase(dir, func(db *sql.DB) error {
		_, err := insertRules(ctx, db, rows, 10_000)
		return err
	})
	if err != nil {
		return err
	}
	d, err := b.startDaemon(ctx, dir, hostName(0))
	if err != nil {
		return err
	}
	return d.stop()
}

func (b *bench) difference(what string, got, bar time.Duration) {
	b.line(what, fmt.Sprintf("%.1f ms", got.Seconds()*1000), fmt.Sprintf("%d ms", bar.Milliseconds()), got <= bar)
}

// medianStart starts and kills some times; before, if given, is called before each.
func (b *bench) medianStart(ctx context.Context, dir string, before func() error) (time.Duration, error) {
	var all []time.Duration
	for range b.rounds {
		if before != nil {
			if err := before(); err != nil {
				return 0, err
			}
		}
		d, err := b.startDaemon(ctx, dir, hostName(1))
		if err != nil {
			return 0, err
		}
		all = append(all, d.firstAnswer)
		if err := d.kill(); err != nil {
			return 0, err
		}
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

// startAfterEdits starts with a snapshot that is a thousand edits old.
func (b *bench) startAfterEdits(ctx context.Context, few time.Duration) error {
	kept := filepath.Join(b.dir, snapshotFile)
	current := filepath.Join(b.large(), snapshotFile)
	if err := copyFile(current, kept); err != nil {
		return err
	}
	err := inDatabase(b.large(), func(db *sql.DB) error {
		for n := range 1000 {
			if _, err := db.ExecContext(ctx, "UPDATE rules SET note='edited' WHERE host=?", hostName(n*b.rows/1000)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	old, err := b.medianStart(ctx, b.large(), func() error { return copyFile(kept, current) })
	if err != nil {
		return err
	}
	b.difference("the same with 1,000 edits since", old-few, 45*time.Millisecond)
	return nil
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		_ = target.Close()
		return err
	}
	return target.Close()
}

// startWithout starts from the tables alone.
func (b *bench) startWithout(ctx context.Context, few time.Duration) error {
	var scans []time.Duration
	without, err := b.medianStart(ctx, b.large(), func() error {
		took, err := bareScan(ctx, b.large())
		scans = append(scans, took)
		_ = os.Remove(filepath.Join(b.large(), snapshotFile))
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(scans)
	scan := scans[len(scans)/2]
	ratio := (without - few).Seconds() / scan.Seconds()
	b.line("the same without a snapshot", fmt.Sprintf("%.0f ms, %.2f × a bare scan of %.0f ms", (without-few).Seconds()*1000, ratio, scan.Seconds()*1000), "1.3 ×", ratio <= 1.3)
	d, err := b.startDaemon(ctx, b.large(), hostName(1))
	if err != nil {
		return err
	}
	return d.stop()
}

// size says how many bytes a rule takes in memory: those of the snapshot are those that are used.
func (b *bench) size() error {
	info, err := os.Stat(filepath.Join(b.large(), snapshotFile))
	if err != nil {
		return err
	}
	each := float64(info.Size()) / float64(b.rows)
	b.line("memory, of which the garbage collector scans nothing", fmt.Sprintf("%.1f bytes a rule", each), "70 bytes", each <= 70)
	return nil
}
