package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// away is what was met while one of three targets was not there.
type away struct {
	How      string         `json:"how"`
	Requests map[phase]int  `json:"requests"`
	Failed   map[phase]int  `json:"failed"`
	Reasons  map[string]int `json:"reasons,omitempty"`
	Slowest  time.Duration  `json:"slowest"` // while it was away
	Calm     time.Duration  `json:"calm"`    // p99
	Without  time.Duration  `json:"without"` // p99 of what began once it got no more requests
	Ejected  time.Duration  `json:"ejected"` // 0 for never
	Returned time.Duration  `json:"returned"`
	// Early and Late are the parts of an even share that it got in the first two seconds after it had returned, and in the
	// last two of the measurement.
	Early float64 `json:"early"`
	Late  float64 `json:"late"`
}

// phase is one of the times of a measurement.
type phase string

const (
	calmly  phase = "calm"
	missing phase = "away"
	after   phase = "back"
)

const (
	awayClients = 30
	awayEvery   = 100 * time.Millisecond // a client asks
	awayHost    = "pool.test"
	awayBytes   = 2000
	shareSpan   = 2 * time.Second
)

// visits collects what clients met. All may use it at once.
type visits struct {
	mu  sync.Mutex
	all []visit
}

func (v *visits) add(one visit) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = append(v.all, one)
}

// pool is three targets, each with an address of its own.
func (b *bench) pool(ctx context.Context) (services []*service, end func(), err error) {
	arguments := []string{"upstreams", "set", "pool"}
	end = func() {
		for _, s := range services {
			s.kill()
		}
	}
	for _, machine := range machines() {
		s := &service{address: machine + ":9000"}
		if err := (network{}).add(ctx, machine); err != nil {
			return nil, end, err
		}
		if err := s.start(ctx); err != nil {
			return nil, end, err
		}
		services = append(services, s)
		arguments = append(arguments, "http://"+s.address)
	}
	err = errors.Join(b.subject.say(ctx, arguments...), b.subject.say(ctx, "rules", "set", awayHost, "--v1", "pool", "--v2", "pool"))
	return services, end, err
}

// away takes one of three targets away under load, and gives it back.
func (b *bench) away(ctx context.Context, how string) (a away, err error) {
	services, end, err := b.pool(ctx)
	defer end()
	if err != nil {
		return a, err
	}
	defer func() {
		for _, machine := range machines() {
			_ = network{}.remove(ctx, machine) // one may be away
		}
	}()
	var met visits
	loading, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	ids := &counter{}
	for range awayClients {
		clients.Go(func() { b.keepAsking(loading, ids, &met) })
	}
	a.How = how
	t, err := b.takeAway(ctx, how, services[0], services, &a)
	stop()
	clients.Wait()
	a.sumUp(met.all, t)
	return a, errors.Join(err, ctx.Err())
}

// keepAsking is one client. What it has begun it brings to an end.
func (b *bench) keepAsking(ctx context.Context, ids *counter, met *visits) {
	client := &h1{address: b.subject.plain}
	defer client.close()
	for wait(ctx, awayEvery) {
		met.add(visitOnce(context.WithoutCancel(ctx), client, ids, "GET", awayHost, awayBytes))
	}
}

// times are when what happened.
type times struct{ began, gone, ejected, back time.Time }

// takeAway spends the time of the measurement.
func (b *bench) takeAway(ctx context.Context, how string, one *service, all []*service, a *away) (t times, err error) {
	wait(ctx, time.Second) // until connections are made
	t.began = time.Now()
	wait(ctx, b.sizes.calm)
	leave, back := func() error { one.kill(); return nil }, func() error { return one.start(ctx) }
	if how == "black-hole" {
		machine := machines()[0]
		leave = func() error { return network{}.remove(ctx, machine) }
		back = func() error { return network{}.add(ctx, machine) }
	}
	t.gone = time.Now()
	if err := leave(); err != nil {
		return t, err
	}
	t.ejected = b.until(ctx, one, true, b.sizes.away)
	if !t.ejected.IsZero() {
		a.Ejected = t.ejected.Sub(t.gone)
	}
	wait(ctx, time.Until(t.gone.Add(b.sizes.away)))
	t.back = time.Now()
	if err := back(); err != nil {
		return t, err
	}
	returned := b.until(ctx, one, false, patience)
	if returned.IsZero() {
		return t, errors.New("the target was never taken back")
	}
	a.Returned = returned.Sub(t.back)
	a.Early = share(ctx, one, all)
	wait(ctx, time.Until(returned.Add(b.sizes.back-shareSpan)))
	a.Late = share(ctx, one, all)
	return t, nil
}

// until waits until cutover says that a target fails, or that it does not, and returns when that was; zero for never.
func (b *bench) until(ctx context.Context, s *service, fails bool, atMost time.Duration) time.Time {
	deadline := time.Now().Add(atMost)
	for time.Now().Before(deadline) && wait(ctx, 10*time.Millisecond) {
		targets, err := b.subject.status(ctx, "pool")
		if err != nil {
			continue // it is asked again
		}
		for _, t := range targets {
			if t.URL == "http://"+s.address && t.FailingSince.IsZero() != fails {
				return time.Now()
			}
		}
	}
	return time.Time{}
}

// share is the part of an even share of requests that one target gets for a while.
func share(ctx context.Context, one *service, all []*service) float64 {
	count := func() (of, sum float64) {
		for _, s := range all {
			sum += float64(s.served.Load())
		}
		return float64(one.served.Load()), sum
	}
	of, sum := count()
	wait(ctx, shareSpan)
	ofNow, sumNow := count()
	return (ofNow - of) / max(1, sumNow-sum) * float64(len(all))
}

// sumUp sorts what was met by when it began.
func (a *away) sumUp(all []visit, t times) {
	a.Requests, a.Failed, a.Reasons = map[phase]int{}, map[phase]int{}, map[string]int{}
	var calm, without []time.Duration
	for _, v := range all {
		p := calmly
		switch {
		case v.began.Before(t.began):
			continue
		case !v.began.Before(t.back):
			p = after
		case v.began.Add(v.took).After(t.gone):
			p = missing
			a.Slowest = max(a.Slowest, v.took)
		}
		a.Requests[p]++
		if v.outcome != right {
			a.Failed[p]++
			a.Reasons[fmt.Sprintf("%s: %s %s", p, v.outcome, v.detail)]++
			continue
		}
		if p == calmly {
			calm = append(calm, v.took)
		}
		if p == missing && !t.ejected.IsZero() && v.began.After(t.ejected) {
			without = append(without, v.took)
		}
	}
	a.Calm, a.Without = p99(calm), p99(without)
}

// p99 is the time that one in a hundred exceeds; 0 for none.
func p99(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}
