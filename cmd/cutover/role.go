package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"cutover/proxy/frontend"
	"cutover/systemd/takeover"
)

// idleDrain is how long a worker that was replaced leaves idle connections to their clients.
const idleDrain = 30 * time.Second

// drainMargin is how long after the graces of requests and tunnels a worker that was replaced cuts whatever is left.
const drainMargin = time.Minute

// Worker says how this worker does.
func (w *worker) Worker() takeover.Worker {
	stats := w.front.Load().Stats()
	w.mu.Lock()
	defer w.mu.Unlock()
	this := takeover.Worker{
		PID: os.Getpid(), Version: version, Started: w.started, State: w.state,
		Holds: takeover.Holds{Connections: stats.Open + w.handshakes(), Requests: stats.Requests, Tunnels: stats.Tunnels, Streams: stats.Streams},
	}
	if w.state == takeover.Paused || w.state == takeover.Draining {
		this.Ends = w.cut
		if before := w.acceptedBefore.Load(); before > 0 { // 0 until it has given up
			this.Holds.Late = int(w.accepted() - before)
		}
	}
	return this
}

// Prepare gives up the rules. The worker before this one can end: this one has done well enough to be replaced in its turn.
func (w *worker) Prepare(ctx context.Context) error {
	w.commitPredecessor()
	if err := w.store.Demote(ctx); err != nil {
		return err
	}
	w.setState(takeover.Paused)
	return nil
}

// Pause accepts no more.
func (w *worker) Pause() {
	w.log.Info("replaced; finishing what is open")
	w.pauseAdmin(true)
	if !w.isDraining() { // else a stop has done that
		grace := frontend.Grace{Idle: idleDrain, Requests: w.config.RequestDrain, Tunnels: w.config.TunnelDrain}
		w.giveUp(takeover.Paused, grace, max(grace.Requests, grace.Tunnels)+drainMargin)
	}
}

// Resume serves again: requests at once, edits as soon as the rules are free, which a dying successor may hold for a while.
func (w *worker) Resume(ctx context.Context) {
	if !w.acceptAgain() {
		return
	}
	leaveBefore := w.takeAdminBack(ctx)
	w.log.Warn("serving again: the worker that had taken over is gone")
	for err := w.store.Promote(ctx); err != nil; err = w.store.Promote(ctx) {
		w.log.Error("the rules cannot be taken back yet", slog.Any("error", err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
	leaveBefore()
	w.setState(takeover.Serving)
}

// acceptAgain takes the sockets into service, with a frontend of its own: the one that drains has told its clients to go. It
// reports false for a worker that stops.
func (w *worker) acceptAgain() bool {
	w.turn.Lock()
	defer w.turn.Unlock()
	if w.isDraining() {
		return false
	}
	if w.givenUp {
		w.givenUp = false
		front := w.newFrontend()
		w.runFrontend(front)
		w.front.Store(front)
	}
	w.pauseAdmin(false)
	for _, acceptor := range w.acceptors {
		acceptor.Resume()
	}
	return true
}

// takeAdminBack makes this worker the one that operators and the next worker find, if it is not.
func (w *worker) takeAdminBack(ctx context.Context) (leaveBefore func()) {
	if err := w.server.Announce(); err != nil {
		w.log.Error("the next worker cannot take over from this one", slog.Any("error", err))
	}
	if listenerOf(ctx, adminSocket(w.config)) == os.Getpid() {
		return func() {}
	}
	leaveBefore, err := w.takeAdmin()
	if err != nil {
		w.log.Error("the admin socket cannot be taken back", slog.Any("error", err))
		return func() {}
	}
	return leaveBefore
}

func (w *worker) isDraining() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state == takeover.Draining
}

// Commit is final.
func (w *worker) Commit() {
	_ = makeExpendable(w.log) // what it holds is less than what its successor does
	w.setState(takeover.Draining)
	close(w.committed)
}

// End cuts what is left.
func (w *worker) End() { w.end.Do(func() { close(w.ended) }) }

// elsewhere is asked by the admin API where the writer of the rules is.
func (w *worker) elsewhere(ctx context.Context) (http.RoundTripper, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		w.mu.Lock()
		state, changed := w.state, w.changed
		w.mu.Unlock()
		switch {
		case w.store.IsWriter():
			return nil, sleep(ctx, 10*time.Millisecond) // it may be about to give that up
		case state == takeover.Draining, state == takeover.Paused:
			if transport := toSocket(ctx, adminSocket(w.config)); transport != nil {
				return transport, nil
			}
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.New("no process holds the rules just now")
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// toSocket returns what reaches the process that listens there; nil if nobody does, or only this process.
func toSocket(ctx context.Context, path string) http.RoundTripper {
	if pid := listenerOf(ctx, path); pid == 0 || pid == os.Getpid() {
		return nil
	}
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
}

// listenerOf returns the process that listens on a unix socket; 0 for none.
func listenerOf(ctx context.Context, path string) (pid int) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close() }() // it was only tried
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if credentials, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(credentials.Pid)
		}
	})
	return pid
}

// pauseAdmin leaves the TCP admin socket to another worker, or takes it back.
func (w *worker) pauseAdmin(paused bool) {
	for _, listener := range w.adminListeners {
		listener.pause(paused)
	}
	w.log.Debug("admin socket", slog.Bool("paused", paused))
}
