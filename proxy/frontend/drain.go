package frontend

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"time"
)

const (
	lookEvery = 20 * time.Millisecond // while draining
	newGrace  = 5 * time.Second       // for a connection on which nothing has come
)

// Drain ends service without losing a request; the accept loops must be paused before. HTTP/1.1 answers say
// "Connection: close", HTTP/2 is warned with GOAWAY and told GoAwayDelay later, idle connections are closed after
// IdleGrace, the oldest first, tunnels after TunnelGrace. It returns as soon as nothing is left; when ctx ends first, it
// closes the rest and returns ctx's error. Run goes on until its own context ends.
func (s *Server) Drain(ctx context.Context) error {
	began := time.Now()
	s.draining.Store(true)
	s.announce()
	told := make(chan error, 1)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	telling := false
	for {
		if since := time.Since(began); !telling && since >= orDefault(s.options.GoAwayDelay, time.Second) {
			telling = true
			go func() { told <- s.http2.server.Shutdown(ctx) }()
		}
		s.closeDue(time.Since(began))
		if s.empty() {
			break
		}
		select {
		case <-ctx.Done():
			s.closeAll()
			return errors.Join(ctx.Err(), wait(told, telling))
		case <-ticker.C:
		}
	}
	return errors.Join(s.shutdown(ctx), wait(told, telling))
}

func wait(told <-chan error, telling bool) error {
	if !telling {
		return nil
	}
	if err := <-told; err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// shutdown comes last: net/http drops a request that it has read when it sees that it shuts down.
func (s *Server) shutdown(ctx context.Context) error {
	var problems []error
	for _, r := range s.roles() {
		problems = append(problems, r.server.Shutdown(ctx))
	}
	return errors.Join(problems...)
}

func (s *Server) empty() bool {
	if s.options.Arriving != nil && s.options.Arriving() > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) == 0
}

// announce warns the HTTP/2 connections there are. It does so at once for all: one that does not read takes a second.
func (s *Server) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if framed, ok := c.(*framedConn); ok {
			go framed.announce() // ends within announceTimeout
		}
	}
}

// closeDue closes what has had its time.
func (s *Server) closeDue(since time.Duration) {
	s.closeWhere(func(c *connection) bool {
		switch c.state {
		case http.StateIdle:
			return since >= orDefault(s.options.IdleGrace, 2*time.Second)
		case http.StateNew:
			return time.Since(c.since) >= newGrace
		case http.StateHijacked:
			return since >= orDefault(s.options.TunnelGrace, 2*time.Second)
		}
		return false
	})
}

// closeWhere closes connections, those first that have been as they are for longest.
func (s *Server) closeWhere(due func(*connection) bool) {
	type aged struct {
		net.Conn
		since time.Time
	}
	var list []aged
	s.mu.Lock()
	for c, known := range s.conns {
		if due(known) {
			list = append(list, aged{c, known.since})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b aged) int { return a.since.Compare(b.since) })
	for _, c := range list {
		_ = c.Close() // what cannot be closed is closed already
	}
}
