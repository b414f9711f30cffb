package frontend

import (
	"net/http"
	"slices"
	"time"
)

// closeResting closes connections on which nothing happens. Those that rested when the drain began go in the last
// quarter of IdleGrace, one after the other, so that not all clients come back in one moment; those that came to rest
// since then, each IdleGrace later.
func (d *drain) closeResting(open []*connection, now time.Time) {
	grace := d.grace.Idle
	first := d.began.Add(grace - grace/4)
	if now.Before(first) {
		return
	}
	var early []*connection
	for _, c := range open {
		switch since := time.Unix(0, c.since.Load()); {
		case !c.resting():
		case !since.After(d.began):
			early = append(early, c)
		case now.Sub(since) >= grace && d.saysNothing(c, now):
			d.close(c)
		}
	}
	slices.SortFunc(early, longestFirst)
	d.resting = max(d.resting, d.closed+len(early))
	due := d.resting
	if passed := now.Sub(first); passed < grace/4 {
		due = d.resting * int(passed) / int(grace/4)
	}
	for _, c := range early {
		if d.closed >= due {
			return
		}
		if d.saysNothing(c, now) {
			d.close(c)
			d.closed++
		}
	}
}

// headGrace is how long a request's head may be on its way before a connection counts as idle all the same.
const headGrace = 5 * time.Second

// saysNothing reports whether a resting connection may be closed: nothing has come on it, or what came is no request even
// after headGrace. Some clients send a stray line end after a body, and it must not hold the drain up to its deadline.
func (d *drain) saysNothing(c *connection, now time.Time) bool {
	heard := c.heard.Load()
	return c.silent() || heard != 0 && now.Sub(time.Unix(0, heard)) >= headGrace
}

// resting reports whether the connection waits for its client, for a request or, over HTTP/2, for the first byte. HTTP/2
// connections without a stream are told to go instead of being closed.
func (c *connection) resting() bool {
	if c.closing.Load() {
		return false
	}
	return c.is(http.StateNew) || c.is(http.StateIdle) && c.framed == nil
}

// longestFirst orders connections by how long they have been idle; those without any request come last, since theirs may
// be on its way.
func longestFirst(a, b *connection) int {
	if newA, newB := a.is(http.StateNew), b.is(http.StateNew); newA != newB {
		if newA {
			return 1
		}
		return -1
	}
	return int(a.since.Load() - b.since.Load())
}
