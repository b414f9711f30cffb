// Package relay makes the way between a client and a server longer: all that goes over a TCP connection comes a while
// later, ends and resets too. What crosses on the wire shows only where the wire is long.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// What a connection may hold for each direction: 256 pieces of at most 16 KiB. A sender waits beyond that.
const (
	pieces    = 256
	pieceSize = 16 << 10
)

// Relay carries what comes to its listener to a target.
type Relay struct {
	Listener *net.TCPListener
	Target   string
	Each     time.Duration // how long a byte is on its way, in either direction
}

// Run carries until ctx ends; then it closes the listener, cuts what is open, and returns nil once all has ended.
func (r *Relay) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	stop := context.AfterFunc(ctx, func() { _ = r.Listener.Close() })
	defer stop()
	for {
		client, err := r.Listener.AcceptTCP()
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("relay: %w", err)
		}
		running.Go(func() { r.carry(ctx, client) })
	}
}

// carry connects as late as a SYN would come, and lets the first byte follow a round trip after it.
func (r *Relay) carry(ctx context.Context, client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	began := time.Now()
	waitUntil(ctx, began.Add(r.Each))
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.Target)
	if err != nil {
		waitUntil(ctx, began.Add(2*r.Each))
		_ = client.SetLinger(0) // the refusal comes as a reset, the nearest thing to it here
		return
	}
	server := conn.(*net.TCPConn)
	defer func() { _ = server.Close() }()
	stop := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
	defer stop()
	var both sync.WaitGroup
	both.Go(func() { r.delay(ctx, server, client, began.Add(2*r.Each)) })
	both.Go(func() { r.delay(ctx, client, server, began) })
	both.Wait()
}

// piece is what was read at a time. Its error stands for the end.
type piece struct {
	bytes []byte
	read  time.Time
	err   error
}

// delay copies from one connection to the other, each byte and the end a while after it came, and none before earliest.
func (r *Relay) delay(ctx context.Context, to, from *net.TCPConn, earliest time.Time) {
	queue := make(chan piece, pieces)
	var reading sync.WaitGroup
	reading.Go(func() { read(ctx, from, queue) })
	defer reading.Wait()
	for p := range queue {
		if p.read.Before(earliest) {
			p.read = earliest
		}
		waitUntil(ctx, p.read.Add(r.Each))
		if p.err != nil {
			finish(to, p.err)
			continue
		}
		if _, err := to.Write(p.bytes); err != nil { // the other side has gone: that takes its time to be known
			waitUntil(ctx, time.Now().Add(r.Each))
			reset(from)
			for range queue { //revive:disable-line:empty-block // until the reader has ended
			}
		}
	}
}

// read fills the queue until the connection ends.
func read(ctx context.Context, from *net.TCPConn, queue chan<- piece) {
	defer close(queue)
	buffer := make([]byte, pieceSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !put(ctx, queue, piece{bytes: append([]byte(nil), buffer[:n]...), read: time.Now()}) {
				return
			}
		}
		if err != nil {
			put(ctx, queue, piece{err: err, read: time.Now()})
			return
		}
	}
}

func put(ctx context.Context, queue chan<- piece, p piece) bool {
	select {
	case queue <- p:
		return true
	case <-ctx.Done():
		return false
	}
}

// finish hands on how a connection ended: in order, or not.
func finish(to *net.TCPConn, err error) {
	if isEnd(err) {
		_ = to.CloseWrite() // what cannot be closed is closed already
		return
	}
	reset(to)
}

func reset(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

func waitUntil(ctx context.Context, moment time.Time) {
	left := time.Until(moment)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// isEnd reports whether a connection has ended in order: by the other side, or by ourselves.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) }
