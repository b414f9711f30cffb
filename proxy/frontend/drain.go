package frontend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	lookEvery  = 20 * time.Millisecond  // while draining
	restAfter  = 20                     // times as long as a look took: with many connections, and for minutes, it must cost little
	tellAgain  = 250 * time.Millisecond // HTTP/2 connections that had no request yet when the others were told
	warnAtMost = 3                      // times GoAwayDelay: then a client that could not be warned waits no longer
)

// Drain ends service without losing a request. The accept loops must be paused before; what still arrives is served.
//
// HTTP/1.1 answers say "Connection: close". HTTP/2 is warned with GOAWAY(2^31-1), and told GoAwayDelay later. A
// connection that has not sent anything, or nothing more, is closed after IdleGrace; as soon as a client has begun to speak
// it gets its answer. Requests, tunnels and event streams have the time that grace gives them; what is cut then is logged.
//
// It returns nil as soon as all has ended. When ctx ends first, it cuts the rest and returns an error that says what and
// wraps ctx's. In both cases the server takes no more connections, and Run ends.
func (s *Server) Drain(ctx context.Context, grace Grace) error {
	defer s.drainedOnce.Do(func() { close(s.drained) })
	d := newDrain(ctx, s, grace)
	defer d.closing.Wait()
	s.draining.Store(true)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			d.report()
			return s.cutAll(ctx)
		case <-timer.C:
		}
		looked := time.Now()
		d.step(looked)
		if s.empty() && s.arriving() == 0 && s.empty() { // again: what was arriving is open before it arrives no more
			d.report()
			return s.shutdown(ctx)
		}
		timer.Reset(max(lookEvery, restAfter*time.Since(looked)))
	}
}

func (s *Server) arriving() int {
	if s.options.Arriving == nil {
		return 0
	}
	return s.options.Arriving()
}

// shutdown ends the roles; nothing is open any more.
func (s *Server) shutdown(ctx context.Context) error {
	var problems []error
	for _, r := range s.roles() {
		problems = append(problems, r.server.Shutdown(ctx))
	}
	return errors.Join(problems...)
}

func (s *Server) cutAll(ctx context.Context) error {
	stats := s.Stats()
	s.closeAll()
	return fmt.Errorf("cut %d connections (%d idle, %d tunnels) with %d requests and %d event streams in flight, and %d that were still arriving: %w",
		stats.Open, stats.New+stats.Idle, stats.Tunnels, stats.Requests, stats.Streams, s.arriving(), context.Cause(ctx))
}

// drain is one call of Drain.
type drain struct {
	server  *Server
	began   time.Time
	grace   Grace
	parting window                    // when tunnels and event streams are asked to end
	ends    map[*connection]time.Time // each one's moment in it
	alone   bool                      // they were all that was left, and nobody waits for anything else
	late    Stats                     // what did not end though it was asked to
	told    time.Time                 // HTTP/2 connections were last told to go; zero for not yet
	resting int                       // connections that had nothing to do when the closing began
	closed  int                       // of them
	closing sync.WaitGroup            // of connections, some of which may take their time
}

func newDrain(ctx context.Context, s *Server, grace Grace) *drain {
	grace.Idle = orDefault(grace.Idle, s.options.IdleGrace)
	d := &drain{server: s, began: time.Now(), grace: grace, ends: map[*connection]time.Time{}}
	deadline, _ := ctx.Deadline() // zero for none
	d.parting = grace.parting(d.began, deadline, s.options.PartingGrace)
	return d
}

// Hurry tells a drain that its context will end at a time, as a stop of a process does that has been draining for long:
// tunnels and event streams are asked to end before.
func (s *Server) Hurry(deadline time.Time) { s.hurry.Store(&deadline) }

// step does what is due.
func (d *drain) step(now time.Time) {
	open := d.server.known.list()
	if deadline := d.server.hurry.Swap(nil); deadline != nil {
		d.parting = d.grace.parting(now, *deadline, d.server.options.PartingGrace)
		clear(d.ends)
		d.grace.Idle = min(d.grace.Idle, d.server.options.IdleGrace)
	}
	d.warn(open)
	if d.mayTell(open, now) {
		d.tell(now)
	}
	d.closeResting(open, now)
	d.cutRequests(open, now)
	d.endEndless(open, now)
}

// warn sends the first GOAWAY to those who have not had it.
func (d *drain) warn(open []*connection) {
	for _, c := range open {
		if framed := c.framed; framed != nil && !framed.asked.Swap(true) {
			d.closing.Go(framed.announce)
		}
	}
}

// mayTell reports whether the second GOAWAY is due: every client has had the time to see the first.
func (d *drain) mayTell(open []*connection, now time.Time) bool {
	delay := d.server.options.GoAwayDelay
	if now.Sub(d.began) < delay || now.Sub(d.told) < tellAgain || d.server.arriving() > 0 {
		return false
	}
	if now.Sub(d.began) >= warnAtMost*delay {
		return true
	}
	for _, c := range open {
		if framed := c.framed; framed != nil && !c.is(http.StateNew) && !framed.warnedFor(delay, now) {
			return false
		}
	}
	return true
}

// tell has net/http send the second GOAWAY on every connection that has not had it. Shutdown does so each time it is
// called; it does not wait here, since its context has ended.
func (d *drain) tell(now time.Time) {
	d.told = now
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = d.server.http2.server.Shutdown(ended) // its error is that it did not wait
}

// close closes a connection once. Over TLS it can take a moment, when a client does not read.
func (d *drain) close(c *connection) {
	if !c.closing.Swap(true) {
		d.closing.Go(func() { _ = c.Close() }) // what cannot be closed is closed already
	}
}
