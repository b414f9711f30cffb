package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cutover/scripts/e2e/edge/attack"
)

// trial is an attack at a size.
type trial struct {
	Attack      string        `json:"attack"`
	Connections int           `json:"connections"` // at once
	PerSecond   int           `json:"per_second"`  // new connections, or frames of HTTP/2
	Total       int           `json:"total"`       // 0: for as long as it lasts
	Lasts       time.Duration `json:"lasts"`       // at most
	Bound       time.Duration `json:"bound"`       // a connection that lives longer was cut late
}

// enough is what a connection of a flood has sent, at its pace, by the time that it should have been cut.
func (t trial) enough() int {
	return int(float64(t.PerSecond) * t.Bound.Seconds() / float64(max(1, t.Connections)))
}

// cutWait is how long an attack waits, at its end, for connections that are to be cut: far longer than any timeout of the
// server's that counts, so that a busy machine makes it late and not wrong.
const cutWait = time.Minute

// latencyBar is what the p99 of others may be: so many times the calm one and some more.
type latencyBar struct {
	times float64
	plus  time.Duration
}

func (b latencyBar) of(calm time.Duration) time.Duration {
	return time.Duration(b.times*float64(calm)) + b.plus
}

func (b latencyBar) String() string {
	return fmt.Sprintf("%.1f × calm + %.0f ms", b.times, b.plus.Seconds()*1000)
}

// bar is the attack's.
func (t trial) bar() latencyBar {
	if t.Attack == "handshakes" {
		return latencyBar{1.2, time.Millisecond}
	}
	return latencyBar{1.5, 2 * time.Millisecond}
}

const (
	framesPerSecond = 10_000
	resetsPerSecond = 4_000 // each a request
	floodClients    = 20
	headTimeout     = 10 * time.Second // cutover's; a connection whose head is not there by then is to be ended
)

// sizes are what differs between the full measurement and the short one.
type sizes struct {
	calm       time.Duration // and control
	handshakes int
	slow, held trial
	bodies     trial
	bombs      int
	frames     time.Duration // that a flood of frames lasts
	framed     time.Duration // that a connection of it may live
}

func full() sizes {
	return sizes{
		calm: 10 * time.Second, handshakes: 100_000,
		slow:   trial{Connections: 10_000, PerSecond: 1000, Lasts: 40 * time.Second, Bound: headTimeout + 5*time.Second},
		held:   trial{Connections: 10_000, PerSecond: 500, Lasts: 40 * time.Second, Bound: headTimeout + 5*time.Second},
		bodies: trial{Connections: 2000, PerSecond: 200, Lasts: time.Minute, Bound: 40 * time.Second},
		bombs:  2000, frames: 15 * time.Second, framed: 5 * time.Second,
	}
}

func short() sizes {
	return sizes{
		calm: 3 * time.Second, handshakes: 9000,
		slow:   trial{Connections: 1000, PerSecond: 500, Lasts: 15 * time.Second, Bound: headTimeout + 3*time.Second},
		held:   trial{Connections: 500, PerSecond: 250, Lasts: 15 * time.Second, Bound: headTimeout + 3*time.Second},
		bodies: trial{Connections: 200, PerSecond: 200, Lasts: 18 * time.Second, Bound: 16 * time.Second},
		bombs:  200, frames: 5 * time.Second, framed: 4 * time.Second,
	}
}

const (
	handshakesPerSecond = 2000
	bombsPerSecond      = 50
)

// paced is how long so many things may take at a pace: twice what they should, for a machine that is busy.
func paced(total, perSecond int) time.Duration {
	return 2 * time.Duration(total) * time.Second / time.Duration(perSecond)
}

// trials lists the attacks of a measurement, in their order.
func (s sizes) trials() []trial {
	list := []trial{
		{Attack: "handshakes", PerSecond: handshakesPerSecond, Total: s.handshakes, Lasts: paced(s.handshakes, handshakesPerSecond)},
		s.slow, s.held, s.bodies,
		{Attack: "head-bombs", Connections: bombsPerSecond, PerSecond: bombsPerSecond, Total: s.bombs, Lasts: paced(s.bombs, bombsPerSecond), Bound: 5 * time.Second},
	}
	list[1].Attack, list[2].Attack, list[3].Attack = "slow-heads", "held-heads", "slow-bodies"
	for _, name := range []string{"h2-rapid-reset", "h2-made-you-reset", "h2-continuation", "h2-settings", "h2-ping", "h2-empty-data"} {
		frames := framesPerSecond
		if strings.HasSuffix(name, "-reset") {
			frames = resetsPerSecond
		}
		list = append(list, trial{Attack: name, Connections: floodClients, PerSecond: frames, Lasts: s.frames, Bound: s.framed})
	}
	return list
}

// isFlood: it is made of frames, not of connections.
func (t trial) isFlood() bool { return strings.HasPrefix(t.Attack, "h2-") }

// parts are everything that can be measured, by name.
func parts() []string {
	var names []string
	for _, a := range attack.All() {
		names = append(names, a.Name)
	}
	return append(names, "scans", "h2spec", "smuggling", "unit")
}

// wanted reports whether a part is among those asked for; none asked for means all.
func wanted(only []string, part string) bool { return len(only) == 0 || slices.Contains(only, part) }

// choose checks a list of parts, separated by commas.
func choose(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	for _, name := range list {
		if !slices.Contains(parts(), name) {
			return nil, fmt.Errorf("there is no part %q; there are: %s", name, strings.Join(parts(), ", "))
		}
	}
	return list, nil
}

// says is what the attack does.
func (t trial) says() string {
	a, err := attack.Find(t.Attack)
	if err != nil {
		return err.Error()
	}
	return a.Says
}
