package frontend

import (
	"net"
	"sync"
)

// queue is a net.Listener whose connections come from ServeConn.
type queue struct {
	arrive func(net.Conn) // makes a connection known before it can be lost sight of
	refuse func(net.Conn) // undoes it
	conns  chan net.Conn
	ended  chan struct{}
	once   sync.Once
}

func newQueue(arrive, refuse func(net.Conn)) *queue {
	return &queue{arrive: arrive, refuse: refuse, conns: make(chan net.Conn), ended: make(chan struct{})}
}

// ServeConn hands a connection to the server, or closes it if that has ended.
func (q *queue) ServeConn(c net.Conn) {
	q.arrive(c)
	select {
	case q.conns <- c:
	case <-q.ended:
		q.refuse(c)
		_ = c.Close()
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

// Close ends Accept and ServeConn. It may be called more than once.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.ended) })
	return nil
}

// Addr is of no use here: the connections have addresses of their own.
func (q *queue) Addr() net.Addr { return &net.UnixAddr{Name: "inherited", Net: "unix"} }
