package frontend

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Ending returns a channel that is closed when a tunnel or an event stream is to end by itself, in the way of its
// protocol; ctx is the request's. A handler asks before it hijacks the connection or begins its answer. Who has asked gets
// Options.PartingGrace for it; other tunnels and streams are closed at once when their time has come. Other requests end
// at their own pace, and need not ask. The streams of an HTTP/2 connection are told in one moment: they have one client.
// It returns nil, which is never closed, where no Server serves the request.
func Ending(ctx context.Context) <-chan struct{} {
	c, ok := ctx.Value(connectionKey{}).(*connection)
	if !ok {
		return nil
	}
	return c.awaitEnding()
}

// work is what goes on on a connection: one request over HTTP/1.1, many over HTTP/2.
type work struct {
	mu      sync.Mutex
	answers []*answer
	ending  chan struct{} // what Ending returns; nil if nobody has asked
	asked   bool          // it is closed, or would be

	answered time.Time // the last handler has returned
}

func (w *work) addAnswer(a *answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = append(w.answers, a)
}

func (w *work) setEvents(a *answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a.events = true
}

// awaitEnding returns the channel that ask closes.
func (w *work) awaitEnding() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending == nil {
		w.ending = make(chan struct{})
		if w.asked {
			close(w.ending)
		}
	}
	return w.ending
}

// ask has the connection's tunnel or event streams end, and reports whether anybody listens. Asking again changes nothing.
func (w *work) ask() (heard bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending != nil && !w.asked {
		close(w.ending)
	}
	w.asked = true
	return w.ending != nil
}

// count returns how many requests are answered with event streams, and how many in other ways.
func (w *work) count() (streams, requests int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.answers {
		if a.events {
			streams++
		}
	}
	return streams, len(w.answers) - streams
}

// breakOff cuts the answers of one kind, and returns how many of them were whole so far. Where nothing else is under way it
// cuts the connection, and where something is, which is over HTTP/2, their streams.
func (c *connection) breakOff(events bool) (count int) {
	c.mu.Lock() // so that none finishes meanwhile
	defer c.mu.Unlock()
	others := slices.ContainsFunc(c.answers, func(a *answer) bool { return a.events != events })
	for _, a := range c.answers {
		if a.events == events && !a.broken {
			a.broken = true
			count++
			if others {
				a.reset()
			}
		}
	}
	if !others {
		c.cut()
	}
	return count
}

// removeAnswer forgets a request and reports whether it had an event stream. Over HTTP/1.1 the connection is over when
// such a stream was asked to end: the client must come back on another, and no header can tell it any more.
func (c *connection) removeAnswer(a *answer) (events bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.answers, a); i >= 0 {
		c.answers = slices.Delete(c.answers, i, i+1)
	}
	c.answered = time.Now()
	if a.events && c.asked && c.framed == nil {
		c.over.Store(true)
	}
	return a.events
}

// endless reports whether a tunnel or event streams are on the connection: what does not end by itself.
func (c *connection) endless() bool {
	streams, _ := c.count()
	return streams > 0 || c.is(http.StateHijacked)
}
