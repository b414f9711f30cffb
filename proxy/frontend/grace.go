package frontend

import "time"

// Grace is how long Drain lets what is under way go on, from its begin. The end of Drain's context comes first if it is
// earlier. The zero value is for a process that must end soon.
type Grace struct {
	// Idle is how long connections on which nothing happens are left to speak once more, see Options.IdleGrace, for which 0
	// stands. Whoever may wait should give clients more than they think between two requests: to close a connection that a
	// client is about to use costs it a request (RFC 9112 §9.5).
	Idle time.Duration
	// Requests is the time for requests in flight; one that begins later, the last on its connection, has it from its own
	// begin. 0 means until the context ends.
	Requests time.Duration
	// Tunnels is the time for tunnels (WebSocket and the like) and event streams, which do not end by themselves. They are
	// asked to end one after the other in the last minute of it, or in its last quarter if that is shorter, so that their
	// clients do not come back in one moment; see Ending. 0 means as soon as nothing else is left. If the context has a
	// deadline, they are asked in time to end before.
	Tunnels time.Duration
}

// spreadAtMost is how long before the end of their grace the first tunnels and event streams are asked to end.
const spreadAtMost = time.Minute

// window is a span of time. A zero last means that it never comes.
type window struct{ first, last time.Time }

// parting returns when tunnels and event streams are asked to end. A deadline, if it is not zero, leaves them the time for
// it: leave, or a quarter of all the time if that is shorter.
func (g Grace) parting(began, deadline time.Time, leave time.Duration) window {
	last := time.Time{}
	if g.Tunnels > 0 {
		last = began.Add(g.Tunnels)
	}
	if !deadline.IsZero() {
		latest := deadline.Add(-min(leave, deadline.Sub(began)/4))
		if last.IsZero() || latest.Before(last) {
			last = latest
		}
	}
	if last.IsZero() {
		return window{}
	}
	return window{first: last.Add(-min(spreadAtMost, last.Sub(began)/4)), last: last}
}
