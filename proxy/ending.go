package proxy

import (
	"sync"
	"time"
)

// How long the end of a tunnel or an event stream may take; together less than the frontend's patience with it.
const (
	borderWait    = 2 * time.Second // until the frame or the event that is under way has ended
	handshakeWait = time.Second     // for the other side's part in the end, once it was told
)

// parting waits for the moment when what an exchange has begun, and does not end by itself, is to end.
type parting struct {
	ending   <-chan struct{} // closed when it is; nil for never
	over     chan struct{}   // closed when the exchange is
	watching sync.WaitGroup
}

// newParting returns an exchange's parting. The caller calls stop.
func (h *Handler) newParting(e *exchange) *parting {
	p := &parting{over: make(chan struct{})}
	if h.Ending != nil {
		p.ending = h.Ending(e.in.Context())
	}
	return p
}

// watch calls end when it is time, unless stop comes before.
func (p *parting) watch(end func()) {
	if p.ending == nil {
		return
	}
	p.watching.Go(func() {
		select {
		case <-p.over:
		case <-p.ending:
			end()
		}
	})
}

// await waits for a signal, but not for long, and no longer than the exchange lasts.
func (p *parting) await(signal <-chan struct{}, atMost time.Duration) {
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-signal:
	case <-p.over:
	case <-timer.C:
	}
}

// stop is for when the exchange is over. It waits for end, if that was called.
func (p *parting) stop() {
	if p == nil {
		return // nothing that goes on
	}
	close(p.over)
	p.watching.Wait()
}
