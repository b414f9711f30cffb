package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cutover/proxy/admin"
	"cutover/rules/store"
)

const (
	clients   = 64
	batchSize = 64
	lasting   = 4 * time.Second
)

// groupCommit compares durable edits of many clients with a loop that does nothing but transactions of as many rows.
func (b *bench) groupCommit(ctx context.Context) error {
	b.step("durable edits of %d clients", clients)
	raw, err := b.rawLoop(ctx)
	if err != nil {
		return err
	}
	owner, err := b.throughOwner(ctx)
	if err != nil {
		return err
	}
	b.line(fmt.Sprintf("durable edits through the owner, %d callers", clients), fmt.Sprintf("%.0f a second, %.2f of a raw loop's %.0f", owner, owner/raw, raw), "0.7", owner >= 0.7*raw)
	socket, syncs, err := b.throughSocket(ctx)
	if err != nil {
		return err
	}
	b.line(fmt.Sprintf("the same over the admin socket, %d clients", clients), fmt.Sprintf("%.0f a second, %.2f of the raw loop", socket, socket/raw), "0.7", socket >= 0.7*raw)
	if syncs < 0 {
		b.step("strace is not here: fsyncs are not counted")
		return nil
	}
	b.line("fsyncs an acknowledged edit, over the admin socket", fmt.Sprintf("%.3f", syncs), "0.05", syncs <= 0.05)
	return nil
}

func (b *bench) rawLoop(ctx context.Context) (perSecond float64, err error) {
	dir := filepath.Join(b.dir, "raw")
	if err := makeEmpty(ctx, dir, nil); err != nil {
		return 0, err
	}
	err = inDatabase(dir, func(db *sql.DB) error {
		began, n := time.Now(), 0
		for ; time.Since(began) < lasting; n += batchSize {
			if err := insertSome(ctx, db, n, n+batchSize); err != nil {
				return err
			}
		}
		perSecond = float64(n) / time.Since(began).Seconds()
		return nil
	})
	return perSecond, err
}

// throughOwner makes edits through the owner goroutine, in this process.
func (b *bench) throughOwner(ctx context.Context) (perSecond float64, err error) {
	dir := filepath.Join(b.dir, "owner")
	if err := makeEmpty(ctx, dir, nil); err != nil {
		return 0, err
	}
	s, err := store.Open(ctx, store.Options{Dir: dir})
	if err != nil {
		return 0, err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	perSecond, err = together(func(n int) error {
		_, err := s.Apply(ctx, store.Author{Name: "bench"}, []store.Edit{ruleEdit(n)}, false)
		return err
	})
	cancel()
	return perSecond, errors.Join(err, <-ended, s.Close())
}

func ruleEdit(n int) store.Edit {
	return store.Edit{Table: store.TableRules, Row: map[string]any{"host": hostName(n), "percent": 10}}
}

// together lets all clients edit for a while and returns how many edits a second were acknowledged.
func together(edit func(n int) error) (perSecond float64, err error) {
	var next, done atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, clients)
	began := time.Now()
	for range clients {
		all.Go(func() {
			for time.Since(began) < lasting {
				if err := edit(int(next.Add(1))); err != nil {
					failed <- err
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return float64(done.Load()) / time.Since(began).Seconds(), nil
	}
}

// throughSocket makes edits over the admin socket of a running cutover, and counts the fsyncs of a second such run.
func (b *bench) throughSocket(ctx context.Context) (perSecond, syncs float64, err error) {
	dir := filepath.Join(b.dir, "socket")
	t := startTargets()
	defer t.close()
	if err := makeEmpty(ctx, dir, t); err != nil {
		return 0, 0, err
	}
	d, err := b.startDaemon(ctx, dir, hostName(0))
	if err != nil {
		return 0, 0, err
	}
	client := admin.Dial(filepath.Join(dir, "admin.sock"))
	edit := func(n int) error {
		_, err := client.Edit(ctx, admin.EditRequest{Edits: []store.Edit{ruleEdit(n)}})
		return err
	}
	perSecond, err = together(edit)
	if err == nil {
		syncs, err = d.countSyncs(ctx, func() (float64, error) { return together(func(n int) error { return edit(n + 1<<20) }) })
	}
	return perSecond, syncs, errors.Join(err, d.stop())
}

// countSyncs returns fsyncs for each edit that work makes; -1 where strace is not here.
func (d *daemon) countSyncs(ctx context.Context, work func() (float64, error)) (float64, error) {
	if _, err := exec.LookPath("strace"); err != nil {
		return -1, nil
	}
	counts := filepath.Join(d.dir, "strace")
	tracer := exec.CommandContext(ctx, "strace", "-f", "-c", "-e", "trace=fsync,fdatasync", "-o", counts, "-p", strconv.Itoa(d.Process.Pid))
	said, err := tracer.StderrPipe()
	if err != nil {
		return 0, err
	}
	if err := tracer.Start(); err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(said); lines.Scan() && !strings.Contains(lines.Text(), " attached"); {
	}
	go func() { _, _ = io.Copy(io.Discard, said) }() // ends with the tracer
	rate, err := work()
	_ = tracer.Process.Signal(os.Interrupt)
	_ = tracer.Wait() // it ends by the signal
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(counts)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, line := range regexp.MustCompile(`(?m)^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?f(?:data)?sync$`).FindAllStringSubmatch(string(text), -1) {
		n, _ := strconv.ParseFloat(line[1], 64)
		total += n
	}
	return total / (rate * lasting.Seconds()), nil
}
