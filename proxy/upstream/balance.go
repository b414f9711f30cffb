package upstream

import (
	"math/rand/v2"
	"time"
)

// A target is preferred to the one drawn before it only if it is better by this much. Without it, the noise of measurement
// would decide between targets that are alike, and weights would not.
const clearlyBetter = 0.8

// slowStart is how long a target takes to its full share once it answers again.
const slowStart = 10 * time.Second

// choose draws two targets by their weights and returns the one that has less to do and answers sooner (the power of two
// choices: Mitzenmacher, 2001). It returns nil if there is none. Every weight is above 0.
func choose(among []*target) *target {
	switch len(among) {
	case 0:
		return nil
	case 1:
		return among[0]
	}
	now := time.Now()
	total := 0.0
	for _, t := range among {
		total += t.share(now)
	}
	first, second := draw(among, total, now), draw(among, total, now)
	if first != second && isBetter(second, first, total/float64(len(among)), now) {
		return second
	}
	return first
}

// draw returns a target at random, in proportion to the shares, whose sum is given.
func draw(among []*target, total float64, now time.Time) *target {
	at := rand.Float64() * total
	for _, t := range among {
		if at -= t.share(now); at < 0 {
			return t
		}
	}
	return among[len(among)-1] // the sum was rounded
}

// isBetter compares how long a request would take: that of those before it, as many as a target of average weight would have,
// and its own.
func isBetter(t, other *target, averageShare float64, now time.Time) bool {
	cost := t.backlog(averageShare, now)
	otherCost := other.backlog(averageShare, now)
	if latency, otherLatency := t.state.latency.get(now), other.state.latency.get(now); latency > 0 && otherLatency > 0 {
		cost, otherCost = cost*latency.Seconds(), otherCost*otherLatency.Seconds()
	}
	return cost < clearlyBetter*otherCost
}

func (t *target) backlog(averageShare float64, now time.Time) float64 {
	return 1 + float64(t.state.inFlight.Load())*averageShare/t.share(now)
}

// share is the target's weight, and less for a time after it has failed.
func (t *target) share(now time.Time) float64 {
	return float64(t.row.Weight) * t.state.health.rampUp(now)
}
