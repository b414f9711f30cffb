package frontend

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"
)

// cutRequests cuts the requests whose grace is over, and connections on which nothing is left that may go on.
func (d *drain) cutRequests(open []*connection, now time.Time) {
	grace := d.grace.Requests
	if grace == 0 || now.Sub(d.began) < grace {
		return
	}
	count := 0
	for _, c := range open {
		if now.Sub(time.Unix(0, c.since.Load())) < grace || c.is(http.StateHijacked) {
			continue
		}
		if (!c.endless() || c.framed != nil) && !c.justAnswered(now) {
			count += c.breakOff(false)
		}
	}
	if count > 0 {
		d.server.log.Warn("requests were cut: they did not end in their time", slog.Int("requests", count), slog.Duration("after", grace))
	}
}

// lastBytes is how long net/http may take to send the end of an answer whose handler has returned.
const lastBytes = time.Second

// justAnswered reports whether nothing is under way, but the end of an answer may be on its way yet.
func (c *connection) justAnswered(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.answers) == 0 && now.Sub(c.answered) < lastBytes
}

// endEndless asks tunnels and event streams to end, each at its moment, and closes those that do not.
func (d *drain) endEndless(open []*connection, now time.Time) {
	if d.grace.Tunnels == 0 && !d.alone && d.onlyEndless(open) {
		d.alone = true
		d.parting = window{first: now, last: now}
		clear(d.ends)
	}
	if d.parting.last.IsZero() || now.Before(d.parting.first) {
		return
	}
	d.appoint(open, now)
	for _, c := range open {
		if end, ok := d.ends[c]; ok && !now.Before(end) && c.endless() {
			if !c.ask() || now.Sub(end) >= d.server.options.PartingGrace {
				d.closeEndless(c)
			}
		}
	}
}

// onlyEndless reports whether nothing but tunnels and event streams is left.
func (d *drain) onlyEndless(open []*connection) bool {
	if d.server.Stats().Requests > 0 || d.server.arriving() > 0 {
		return false
	}
	for _, c := range open {
		if !c.endless() {
			return false
		}
	}
	return true
}

// appoint gives those that have none yet a moment each in what is left of the window: as many in each part of it, in an
// order that is left to chance.
func (d *drain) appoint(open []*connection, now time.Time) {
	var fresh []*connection
	for _, c := range open {
		if _, ok := d.ends[c]; !ok && c.endless() {
			fresh = append(fresh, c)
		}
	}
	if len(fresh) == 0 {
		return
	}
	rand.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
	share := max(0, d.parting.last.Sub(now)) / time.Duration(len(fresh))
	for i, c := range fresh {
		d.ends[c] = now.Add(share*time.Duration(i) + time.Duration(rand.Float64()*float64(share)))
	}
}

// closeEndless closes a tunnel, or breaks event streams off: nobody listens who would end them, or it took too long.
func (d *drain) closeEndless(c *connection) {
	if c.is(http.StateHijacked) {
		if !c.closing.Load() {
			d.late.Tunnels++
		}
		d.close(c)
		return
	}
	d.late.Streams += c.breakOff(true)
}

// report tells which tunnels and event streams had to be closed.
func (d *drain) report() {
	if d.late.Tunnels+d.late.Streams > 0 {
		d.server.log.Warn("tunnels or event streams were cut: they did not end when they were asked to",
			slog.Int("tunnels", d.late.Tunnels), slog.Int("event_streams", d.late.Streams))
	}
}
