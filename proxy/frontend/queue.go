package frontend

import (
	"net"
	"sync"
)

// queue is a net.Listener whose connections come from deliver.
type queue struct {
	conns chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func newQueue() *queue {
	return &queue{conns: make(chan net.Conn), ended: make(chan struct{})}
}

// deliver waits until Accept has taken the connection; it reports false, and the connection stays the caller's, if the
// queue has ended.
func (q *queue) deliver(c net.Conn) bool {
	if q.hasEnded() { // even if an Accept is still there: who ended the queue has seen to the connections there were
		return false
	}
	select {
	case q.conns <- c:
		return true
	case <-q.ended:
		return false
	}
}

func (q *queue) hasEnded() bool {
	select {
	case <-q.ended:
		return true
	default:
		return false
	}
}

// Accept returns net.ErrClosed after Close.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.ended:
		return nil, net.ErrClosed
	}
}

// Close ends Accept and deliver. It may be called more than once.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.ended) })
	return nil
}

// Addr is of no use here: the connections have addresses of their own.
func (q *queue) Addr() net.Addr { return &net.UnixAddr{Name: "sink", Net: "unix"} }
