// Package tlsbridge brings the sockets that systemd hands over and certmagic together, inside the process: an accept
// loop that can be paused, a handshake stage that hands each connection to a sink chosen by ALPN, and the certificates.
// A second TCP hop would do too, and lose the client's address.
package tlsbridge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Acceptor accepts connections on an inherited socket. Listener and Handle are required.
type Acceptor struct {
	Listener net.Listener
	// Handle takes a connection over: it closes it. It should return soon, since the next connection waits for it.
	Handle  func(net.Conn)
	Log     *slog.Logger        // nil discards
	OnError func(reason string) // is told "exhausted" or "error" at each failed accept; may be nil

	accepted atomic.Int64

	mu      sync.Mutex
	paused  bool
	changed chan struct{} // closed at the next Pause or Resume
	idle    sync.Mutex    // held by Run while it accepts and hands over
}

const (
	firstBackOff = 5 * time.Millisecond
	lastBackOff  = time.Second
)

// deadliner is what a *net.TCPListener and a *net.UnixListener have.
type deadliner interface{ SetDeadline(time.Time) error }

// Run accepts until ctx ends or the listener is closed, which it does not do itself: the socket is systemd's, and other
// processes may share it. It returns nil then. Where the system has run out of descriptors or memory it waits, for a
// second at most, and goes on.
func (a *Acceptor) Run(ctx context.Context) error {
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		a.interrupt()
		close(interrupted)
	})
	defer func() {
		if !stop() {
			<-interrupted // nothing touches the socket after Run
		}
	}()
	backOff := time.Duration(0)
	for ctx.Err() == nil {
		if err := a.waitWhilePaused(ctx); err != nil {
			return nil
		}
		err := a.acceptOne()
		switch {
		case err == nil:
			backOff = 0
		case ctx.Err() != nil, errors.Is(err, net.ErrClosed):
			return nil
		case isTimeout(err):
			// Pause or the end of ctx has interrupted the wait.
		default:
			backOff = min(max(2*backOff, firstBackOff), lastBackOff)
			a.failed(err, backOff)
			sleep(ctx, backOff)
		}
	}
	return nil
}

// acceptOne accepts a connection and hands it over.
func (a *Acceptor) acceptOne() error {
	a.idle.Lock()
	defer a.idle.Unlock()
	if a.isPaused() {
		return nil
	}
	conn, err := a.Listener.Accept()
	if err == nil {
		a.accepted.Add(1)
		a.Handle(conn)
	}
	return err
}

// Accepted counts the connections that were accepted.
func (a *Acceptor) Accepted() int64 { return a.accepted.Load() }

func (a *Acceptor) isPaused() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.paused
}

// Pause stops accepting; connections wait in the socket's queue, where another process may take them. When it returns,
// every connection that was accepted has been handed over. The listener stays open, so Resume can go on. It must not be
// called by Handle.
func (a *Acceptor) Pause() {
	a.set(true)
	a.interrupt()
	a.idle.Lock() // Run has come out of Accept and Handle
	defer a.idle.Unlock()
}

// Resume goes on accepting.
func (a *Acceptor) Resume() {
	if listener, ok := a.Listener.(deadliner); ok {
		_ = listener.SetDeadline(time.Time{}) // fails on a closed listener only, and Run sees that
	}
	a.set(false)
}

func (a *Acceptor) set(paused bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paused = paused
	if a.changed != nil {
		close(a.changed)
	}
	a.changed = make(chan struct{})
}

// interrupt ends a wait in Accept by a deadline in the past: closing would lose the socket.
func (a *Acceptor) interrupt() {
	if listener, ok := a.Listener.(deadliner); ok {
		_ = listener.SetDeadline(time.Unix(1, 0)) // fails on a closed listener only, and Run sees that
	}
}

func (a *Acceptor) waitWhilePaused(ctx context.Context) error {
	for {
		a.mu.Lock()
		if a.changed == nil {
			a.changed = make(chan struct{})
		}
		paused, changed := a.paused, a.changed
		a.mu.Unlock()
		if !paused {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *Acceptor) failed(err error, wait time.Duration) {
	reason := "error"
	if isExhausted(err) {
		reason = "exhausted"
	}
	if a.OnError != nil {
		a.OnError(reason)
	}
	if a.Log != nil && wait == firstBackOff {
		a.Log.Error("connections cannot be accepted; trying again", slog.String("socket", a.Listener.Addr().String()), slog.Any("error", err))
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// isExhausted reports whether the system has run out of descriptors or memory.
func isExhausted(err error) bool {
	for _, each := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, each) {
			return true
		}
	}
	return false
}

// sleep waits, but not beyond the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
