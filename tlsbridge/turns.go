package tlsbridge

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"sync"
)

// turns lets few handshakes compute at one time, so that a flood of them does not take all processors from requests that are
// under way. Where many wait, client networks take turns: one that has a handshake waiting goes before one that has a
// thousand, but for its first. Three of four turns are for networks that are familiar, where any of them waits: a flood
// from many addresses is one of strangers. The zero value is ready.
type turns struct {
	mu                  sync.Mutex
	taken               int
	ahead               []chan struct{} // who goes before all networks
	familiar, strangers ring
	inARow              int // turns of familiar networks, while strangers waited
}

// familiarInARow is how many turns familiar networks have before a stranger has one.
const familiarInARow = 3

// ring is what waits for its turn, by network.
type ring struct {
	order []netip.Addr // whose turn it is comes first
	lines map[netip.Addr][]chan struct{}
}

func (r *ring) add(network netip.Addr, turn chan struct{}) {
	if r.lines == nil {
		r.lines = map[netip.Addr][]chan struct{}{}
	}
	if len(r.lines[network]) == 0 {
		r.order = append(r.order, network)
	}
	r.lines[network] = append(r.lines[network], turn)
}

// next takes the first of the network whose turn it is; the network goes to the end if it has more. It returns nil if nobody
// waits.
func (r *ring) next() chan struct{} {
	if len(r.order) == 0 {
		return nil
	}
	network := r.order[0]
	r.order = r.order[1:]
	line := r.lines[network]
	if len(line) == 1 {
		delete(r.lines, network)
	} else {
		r.lines[network] = line[1:]
		r.order = append(r.order, network)
	}
	return line[0]
}

// sharedProcessors are half of them: the others are left for what is no handshake.
func sharedProcessors() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// enter waits until fewer than most have a turn, or one is handed over by leave.
func (t *turns) enter(who client, most int) {
	t.mu.Lock()
	if t.taken < most {
		t.taken++
		t.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	switch {
	case !who.network.IsValid():
		t.ahead = append(t.ahead, turn)
	case who.familiar:
		t.familiar.add(who.network, turn)
	default:
		t.strangers.add(who.network, turn)
	}
	t.mu.Unlock()
	<-turn
}

// leave hands the turn to the one who is next.
func (t *turns) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if next := t.next(); next != nil {
		close(next)
		return
	}
	t.taken--
}

func (t *turns) next() chan struct{} {
	if len(t.ahead) > 0 {
		turn := t.ahead[0]
		t.ahead = t.ahead[1:]
		return turn
	}
	if t.inARow < familiarInARow {
		if turn := t.familiar.next(); turn != nil {
			t.inARow++
			return turn
		}
	}
	t.inARow = 0
	if turn := t.strangers.next(); turn != nil {
		return turn
	}
	return t.familiar.next()
}

// client is whose handshake it is.
type client struct {
	network  netip.Addr // invalid: it goes before all others
	familiar bool       // the network has a connection whose handshake has succeeded
}

// clientBehind returns whose a connection is. One that is exempt from what networks are bound by speaks for many, and goes first.
func clientBehind(c net.Conn) client {
	if counted, ok := c.(*limited); ok {
		return client{counted.network, counted.limiter.familiar(counted.network)}
	}
	return client{network: networkOf(addressOf(c.RemoteAddr()))}
}

// turn is one handshake's. It belongs to the one who does the handshake, and is held while that computes, never while it
// waits for the client, a disk or a CA.
type turn struct {
	turns *turns
	who   client
	most  int
	held  bool
	over  bool // the handshake is
}

// take waits for it.
func (t *turn) take() {
	if t.held || t.over {
		return
	}
	t.turns.enter(t.who, t.most)
	t.held = true
	t.who = client{} // what has begun goes before what has not
}

func (t *turn) giveBack() {
	if t.held {
		t.turns.leave()
		t.held = false
	}
}

// end gives it back for good.
func (t *turn) end() {
	t.giveBack()
	t.over = true
}

// aside gives the turn of the handshake that ctx belongs to, if any, to another, until back is called: what comes may have to
// wait for a disk or a CA. ctx may be nil, as that of a ClientHelloInfo is which is no handshake's.
func aside(ctx context.Context) (back func()) {
	if ctx == nil {
		return func() {}
	}
	p, ok := ctx.Value(patienceKey{}).(*patience)
	if !ok {
		return func() {}
	}
	p.opening.turn.giveBack()
	return p.opening.turn.take
}
