package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// faulty is what visitors met of targets with one fault.
type faulty struct {
	Fault    string          `json:"fault"`
	Says     string          `json:"says"`
	Outcomes map[outcome]int `json:"outcomes"`
	Wrong    map[string]int  `json:"wrong,omitempty"` // in which way
	Slowest  time.Duration   `json:"slowest"`
}

// left is what the process holds before all faults, while targets still have them, and once all visitors have left.
type left struct {
	Before held `json:"before"`
	Most   held `json:"most"`
	After  held `json:"after"`
}

const (
	answersWithin = 2 * time.Second // response_timeout
	faultBytes    = 60_000          // of an answer: more than any buffer on the way but the kernel's
	faultEvery    = 40 * time.Millisecond
	flapEvery     = time.Second
)

// site is an upstream with one fault, and the host that leads there.
type site struct {
	fault   fault
	met     visits
	targets []string
}

func (s *site) host() string { return s.fault.name + ".test" }

// faulty lets all faults happen at once, under load.
func (b *bench) faulty(ctx context.Context, m *measured) error {
	behind, end := context.WithCancel(ctx)
	var targets sync.WaitGroup
	defer targets.Wait()
	defer end()
	sites, err := b.sites(behind, &targets)
	if err != nil {
		return err
	}
	if err := b.connect(ctx, sites); err != nil {
		return err
	}
	steady := &service{address: machines()[0] + ":9000"}
	if err := errors.Join(network{}.add(ctx, machines()[0]), steady.start(ctx)); err != nil {
		return err
	}
	defer func() { _ = network{}.remove(context.WithoutCancel(ctx), machines()[0]) }() // this process ends
	defer steady.kill()
	m.Left = &left{}
	if m.Left.Before, err = b.atRest(ctx, steady); err != nil {
		return err
	}
	if err := b.askAll(ctx, sites, m.Left); err != nil {
		return err
	}
	for _, s := range sites {
		m.Faults = append(m.Faults, s.sumUp())
	}
	b.step("what is left")
	m.Left.After, err = b.untilGone(ctx, sites, steady, m.Left.Before)
	return err
}

// sites makes the targets, which run until ctx ends.
func (b *bench) sites(ctx context.Context, targets *sync.WaitGroup) (sites []*site, err error) {
	for _, f := range faults() {
		s := &site{fault: f}
		for range 2 {
			t, err := newFaultyTarget(ctx, f)
			if err != nil {
				return nil, err
			}
			targets.Go(func() { t.run(ctx) })
			s.targets = append(s.targets, "http://"+t.address())
		}
		sites = append(sites, s)
	}
	flapping := &site{fault: fault{name: "flaps", says: "is there for a second, and gone for one, beside one that stays"}}
	for i, flaps := range []bool{true, false} {
		target := &service{address: fmt.Sprintf("127.0.0.1:%d", 9101+i)}
		if err := target.start(ctx); err != nil {
			return nil, err
		}
		targets.Go(func() { target.flap(ctx, flaps) })
		flapping.targets = append(flapping.targets, "http://"+target.address)
	}
	return append(sites, flapping), nil
}

// flap kills a service and starts it again, each for a second, until ctx ends; or only kills it then.
func (s *service) flap(ctx context.Context, flaps bool) {
	defer s.kill()
	if !flaps {
		<-ctx.Done()
		return
	}
	for wait(ctx, flapEvery) {
		s.kill()
		if !wait(ctx, flapEvery) || s.start(ctx) != nil {
			return
		}
	}
}

// connect tells cutover of the sites, and of one without faults.
func (b *bench) connect(ctx context.Context, sites []*site) error {
	for _, s := range sites {
		err := b.subject.say(ctx, append([]string{"upstreams", "set", s.fault.name, "--response-timeout", fmt.Sprint(answersWithin.Seconds())}, s.targets...)...)
		if err == nil {
			err = b.subject.say(ctx, "rules", "set", s.host(), "--v1", s.fault.name, "--v2", s.fault.name)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(b.subject.say(ctx, "upstreams", "set", "steady", "http://"+machines()[0]+":9000"),
		b.subject.say(ctx, "rules", "set", steadyHost, "--v1", "steady", "--v2", "steady"))
}

const steadyHost = "steady.test"

// atRest counts what the process holds while nobody asks, but after everything was in use.
func (b *bench) atRest(ctx context.Context, steady *service) (h held, err error) {
	roots, err := b.subject.roots(ctx)
	if err != nil {
		return h, err
	}
	first := newH2(b.subject.secure, roots)
	ids := &counter{}
	err = b.subject.eventually(ctx, func() error { // it may wait for its certificate
		if v := visitOnce(ctx, first, ids, http.MethodPost, steadyHost, 100); v.outcome != right {
			return fmt.Errorf("%s: %s %s", steady.address, v.outcome, v.detail)
		}
		return nil
	})
	first.close()
	if err != nil {
		return h, err
	}
	return b.settled(ctx, func(h held, last held) bool { return h == last })
}

// settled counts what the process holds until that is enough, for as long as patience lasts.
func (b *bench) settled(ctx context.Context, enough func(now, last held) bool) (h held, err error) {
	last := held{}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); last = h {
		if h, err = b.subject.held(ctx); err != nil || enough(h, last) {
			return h, err
		}
		if !wait(ctx, 500*time.Millisecond) {
			return h, ctx.Err()
		}
	}
	return h, nil
}

// askAll lets clients of each kind ask each site at once.
func (b *bench) askAll(ctx context.Context, sites []*site, l *left) error {
	roots, err := b.subject.roots(ctx)
	if err != nil {
		return err
	}
	loading, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	ids := &counter{}
	for _, s := range sites {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			for _, client := range []asker{&h1{address: b.subject.plain}, newH2(b.subject.secure, roots)} {
				clients.Go(func() { s.keepAsking(loading, client, ids, method) })
			}
		}
	}
	for until := time.Now().Add(b.sizes.faults); time.Now().Before(until) && wait(ctx, 500*time.Millisecond); {
		if now, err := b.subject.held(ctx); err == nil {
			l.Most = held{max(l.Most.Goroutines, now.Goroutines), max(l.Most.Descriptors, now.Descriptors)}
		}
	}
	stop()
	clients.Wait()
	return ctx.Err()
}

// keepAsking is one client. What it has begun it brings to an end.
func (s *site) keepAsking(ctx context.Context, client asker, ids *counter, method string) {
	defer client.close()
	for wait(ctx, faultEvery) {
		s.met.add(visitOnce(context.WithoutCancel(ctx), client, ids, method, s.host(), faultBytes))
	}
}

func (s *site) sumUp() faulty {
	f := faulty{Fault: s.fault.name, Says: s.fault.says, Outcomes: map[outcome]int{}, Wrong: map[string]int{}}
	for _, v := range s.met.all {
		f.Outcomes[v.outcome]++
		f.Slowest = max(f.Slowest, v.took)
		if v.outcome == wrong {
			f.Wrong[v.detail]++
		}
	}
	return f
}

// untilGone leads all sites to the steady target, and counts what is left of them. Targets that hang go on to hang: it is
// cutover that must let them go.
func (b *bench) untilGone(ctx context.Context, sites []*site, steady *service, before held) (held, error) {
	for range 2 { // a pool's predecessor is kept for what is under way
		for _, s := range sites {
			if err := b.subject.say(ctx, "upstreams", "set", s.fault.name, "--note", time.Now().String(), "http://"+steady.address); err != nil {
				return held{}, err
			}
		}
		if _, err := b.subject.status(ctx, ""); err != nil { // it looks at the rows, too
			return held{}, err
		}
	}
	return b.settled(ctx, func(now, _ held) bool { return before.covers(now) })
}

// covers reports whether no more is held than before, some noise left out: the steady target's connections that are kept, and
// Go's own goroutines.
func (h held) covers(now held) bool {
	return now.Goroutines <= h.Goroutines+10 && now.Descriptors <= h.Descriptors+5
}

// most lists the most frequent of what was wrong.
func most(counts map[string]int) []string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return counts[b] - counts[a] })
	var list []string
	for _, name := range names[:min(3, len(names))] {
		list = append(list, fmt.Sprintf("%d × %s", counts[name], name))
	}
	return list
}
