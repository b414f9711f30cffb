package main

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// adminListener is a listener that can be left to another process for a while. net/http accepts in a loop of its own.
type adminListener struct {
	net.Listener
	mu      sync.Mutex
	paused  bool
	changed chan struct{}
	closed  chan struct{}
	once    sync.Once
}

func newAdminListener(l net.Listener) *adminListener {
	return &adminListener{Listener: l, changed: make(chan struct{}), closed: make(chan struct{})}
}

func (l *adminListener) pause(paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	deadline := time.Time{}
	if paused {
		deadline = time.Unix(1, 0)
	}
	if listener, ok := l.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		_ = listener.SetDeadline(deadline) // of a closed one it does not matter
	}
	l.paused = paused
	close(l.changed)
	l.changed = make(chan struct{})
}

// Accept waits while the listener is left to another process.
func (l *adminListener) Accept() (net.Conn, error) {
	for {
		l.mu.Lock()
		paused, changed := l.paused, l.changed
		l.mu.Unlock()
		if paused {
			select {
			case <-changed:
				continue
			case <-l.closed:
				return nil, net.ErrClosed
			}
		}
		conn, err := l.Listener.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, err
		}
	}
}

// Close closes this process's copy of the socket.
func (l *adminListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
