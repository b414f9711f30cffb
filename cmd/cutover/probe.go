package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"cutover/rules"
)

// probe is the last thing before a worker takes its place: a request goes the whole way through it, and every target is
// dialled. A target that does not answer is logged: it is none of the new worker's doing.
func (w *worker) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var dialling sync.WaitGroup
	for _, upstream := range w.store.Load().Upstreams() {
		for _, target := range upstream.Targets {
			dialling.Go(func() { w.dialTarget(ctx, target.URL) })
		}
	}
	err := w.probeSelf(ctx)
	dialling.Wait()
	if err != nil {
		return fmt.Errorf("this worker does not answer itself: %w", err)
	}
	return nil
}

// dialTime is how long a start waits for a target at most.
const dialTime = time.Second

func (w *worker) dialTarget(ctx context.Context, target string) {
	address, err := rules.ParseAddress(target)
	if err != nil {
		return // the rules have said so
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, address.Network, address.Dial)
	if err != nil {
		w.log.Warn("a target does not answer", slog.String("target", target), slog.Any("error", err))
		return
	}
	_ = conn.Close() // it was only tried
}

// probeSelf asks for what the proxy answers by itself: CONNECT is never forwarded.
func (w *worker) probeSelf(ctx context.Context) error {
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	deadline, _ := ctx.Deadline()
	_ = ours.SetDeadline(deadline)
	w.front.Load().Plain().ServeConn(theirs)
	if _, err := io.WriteString(ours, "CONNECT probe.invalid:443 HTTP/1.1\r\nHost: probe.invalid:443\r\nUser-Agent: cutover-probe\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(ours), nil)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < 400 || response.StatusCode >= 500 {
		return fmt.Errorf("it says %s", response.Status)
	}
	return nil
}
