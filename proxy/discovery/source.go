package discovery

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const (
	firstPause    = time.Second // until a source that fails is asked again; it doubles
	longestPause  = 30 * time.Second
	shortestPause = 50 * time.Millisecond // whatever a Lookup says
)

var errNoResolver = errors.New("this process does not know how to find such targets")

// source is what a row names, and what is known of it. The Finder's lock guards all that changes.
type source struct {
	url    string
	lookup Lookup
	looked chan struct{} // closed once it was asked

	end    context.CancelFunc // of asking it; nil before that begins
	wanted time.Time          // when a row named it last

	places   []Place
	answerAt time.Time // of the last answer; zero for none
	fault    string    // why it does not answer now; empty if it does
	since    time.Time // when that began
	failures int       // in a row
}

// news is what is worth a line of the log.
type news struct {
	url           string
	fault         error         // it has begun to fail
	failed        time.Duration // it fails no longer
	changed       bool
	before, after []Place
}

func (n *news) tell(log *slog.Logger) {
	target := slog.String("target", n.url)
	if n.fault != nil {
		log.Warn("targets cannot be looked up: those found before go on", target, slog.Int("targets", len(n.before)), slog.Any("error", n.fault))
	}
	if n.failed > 0 {
		log.Info("targets can be looked up again", target, slog.Duration("failed_for", n.failed.Round(time.Millisecond)))
	}
	if n.changed {
		log.Info("the targets found have changed", target, slog.Any("before", urlsOf(n.before)), slog.Any("now", urlsOf(n.after)))
	}
}

// answered takes an answer over.
func (s *source) answered(answer Answer) news {
	n := news{url: s.url, before: s.places, after: tidy(answer.Places)}
	if s.fault != "" {
		n.failed = max(time.Since(s.since), 1)
	}
	s.answerAt, s.fault, s.since, s.failures = time.Now(), "", time.Time{}, 0
	n.changed = !slices.Equal(n.before, n.after)
	s.places = n.after
	return n
}

// failed notes why there is no answer, and returns when to ask again.
func (s *source) failed(err error, again time.Duration) (time.Duration, news) {
	n := news{url: s.url, before: s.places}
	if s.fault == "" {
		n.fault, s.since = err, time.Now()
	}
	s.fault = err.Error()
	s.failures++
	if again > 0 {
		return again, n
	}
	pause := min(firstPause<<min(s.failures-1, 10), longestPause)
	return pause - rand.N(pause/5), n // so that not all are asked together
}

// asked wakes those who wait for the first answer.
func (s *source) asked() {
	select {
	case <-s.looked:
	default:
		close(s.looked)
	}
}

// tidy returns places in an order that does not depend on that of the answer, each URL once.
func tidy(places []Place) []Place {
	list := slices.Clone(places)
	slices.SortStableFunc(list, func(a, b Place) int { return strings.Compare(a.URL, b.URL) })
	return slices.CompactFunc(list, func(a, b Place) bool { return a.URL == b.URL })
}

func urlsOf(places []Place) []string {
	list := make([]string, len(places))
	for i, place := range places {
		list[i] = place.URL
	}
	return list
}

// Status is a source as it is right now.
type Status struct {
	URL      string // of the rows that name it
	Targets  []string
	Answered time.Time // zero if it never did
	// FailingSince is when it began not to answer, and FailingBecause why; zero if it does.
	FailingSince   time.Time
	FailingBecause string
}

// Status returns every source that a row names, sorted by its URL.
func (f *Finder) Status() []Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]Status, 0, len(f.sources))
	for _, s := range f.sources {
		if f.options.Upstreams != nil && time.Since(s.wanted) > 5*notice {
			continue // no row names it any more
		}
		list = append(list, Status{URL: s.url, Targets: urlsOf(s.places), Answered: s.answerAt, FailingSince: s.since, FailingBecause: s.fault})
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.URL, b.URL) })
	return list
}
