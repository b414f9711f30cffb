// Package discovery finds the targets of rows that name another place where they are written: the records of a name, a file of
// root's, the machines of an account that have a tag.
package discovery

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cutover/rules"
)

const (
	notice     = time.Second      // until a change of the rows changes what is asked
	lookupTime = 30 * time.Second // that one lookup may take
	forget     = time.Minute      // after which a source is no longer asked that no row names
)

// Place is one of the addresses that a source stands for.
type Place struct {
	URL    string // as rules.ParseAddress takes it
	Weight int    // among those of its source, at least 1; it multiplies that of the row
}

// Answer is what a source stands for at a time.
type Answer struct {
	Places []Place
	Again  time.Duration // until it is asked again; with an error, 0 leaves that to the Finder
}

// Lookup asks a source what it stands for. It is called by one goroutine at a time, and ends soon after ctx does. With an error
// the answer before goes on to hold.
type Lookup func(ctx context.Context) (Answer, error)

// Resolver returns the lookup of a source. It never waits.
type Resolver func(source rules.TargetSource) Lookup

// Options says which sources there are, and how they are asked.
type Options struct {
	// Upstreams returns those whose rows are followed: their sources are asked before anybody wants to know. It may be nil.
	Upstreams func() []*rules.Upstream
	Resolvers map[rules.SourceKind]Resolver
	Log       *slog.Logger // of sources that begin or end to fail, and of what changes; may be nil
}

// Finder keeps what the sources of rows stand for. Any number of goroutines may use it at once. Use New.
type Finder struct {
	options    Options
	generation atomic.Uint64
	asked      chan struct{} // tells Run of a new source

	mu      sync.Mutex
	sources map[string]*source // by the URL of the row
}

// New returns a Finder that asks nothing before Run.
func New(o Options) *Finder {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Finder{options: o, asked: make(chan struct{}, 1), sources: map[string]*source{}}
}

// Generation changes whenever an answer does.
func (f *Finder) Generation() uint64 { return f.generation.Load() }

// Targets returns the rows that a row stands for: each with a URL that was found, the row's id and state, and a weight made of
// the row's and that of the place. It never waits; a source that never answered has none. A row that says itself where its
// target is stands for itself.
func (f *Finder) Targets(row rules.Target) []rules.Target {
	s := f.want(row.URL)
	if s == nil {
		return []rules.Target{row}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]rules.Target, len(s.places))
	for i, place := range s.places {
		list[i] = row
		list[i].URL, list[i].Weight = place.URL, row.Weight*place.Weight
	}
	return list
}

// Await returns once each source of the rows was asked, whether it has answered or not, or when ctx ends.
func (f *Finder) Await(ctx context.Context, rows []rules.Target) {
	for _, row := range rows {
		s := f.want(row.URL)
		if s == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-s.looked:
		}
	}
}

// want returns a source, which is asked from now on; nil for a URL that needs no asking.
func (f *Finder) want(url string) *source {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.sources[url]
	if ok {
		s.wanted = time.Now()
		return s
	}
	parsed, err := rules.ParseTarget(url)
	if err != nil || parsed.Kind == rules.SourceAddress {
		return nil
	}
	s = &source{url: url, lookup: f.lookup(parsed), wanted: time.Now(), looked: make(chan struct{})}
	f.sources[url] = s
	select {
	case f.asked <- struct{}{}:
	default: // Run has yet to see those before
	}
	return s
}

func (f *Finder) lookup(parsed rules.TargetSource) Lookup {
	if resolver, ok := f.options.Resolvers[parsed.Kind]; ok {
		return resolver(parsed)
	}
	return func(context.Context) (Answer, error) { return Answer{}, errNoResolver }
}

// Run asks the sources until ctx ends, and waits for what it has begun.
func (f *Finder) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	again := time.NewTicker(notice)
	defer again.Stop()
	rows := follower{upstreams: f.options.Upstreams}
	for {
		for _, url := range rows.sources() {
			f.want(url)
		}
		for _, s := range f.adjust() {
			ctx, cancel := context.WithCancel(ctx)
			f.begin(s, cancel)
			running.Go(func() { f.keepAsking(ctx, s) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-again.C:
		case <-f.asked:
		}
	}
}

// adjust forgets the sources that nobody wants any more, and returns those that nobody asks yet.
func (f *Finder) adjust() (fresh []*source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for url, s := range f.sources {
		switch {
		case s.end == nil:
			fresh = append(fresh, s)
		case f.options.Upstreams != nil && time.Since(s.wanted) > forget:
			s.end()
			delete(f.sources, url)
		}
	}
	return fresh
}

func (f *Finder) begin(s *source, end context.CancelFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.end = end
}

func (f *Finder) keepAsking(ctx context.Context, s *source) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(f.ask(ctx, s))
	}
}

// ask returns how long to wait until the source is asked again.
func (f *Finder) ask(ctx context.Context, s *source) time.Duration {
	limit, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	answer, err := s.lookup(limit)
	if ctx.Err() != nil {
		return lookupTime // it comes to nothing
	}
	pause, news := f.note(s, answer, err)
	news.tell(f.options.Log) // without the lock: requests wait for that
	return max(pause, shortestPause)
}

func (f *Finder) note(s *source, answer Answer, err error) (pause time.Duration, n news) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer s.asked() // those who wait look at the generation
	if err != nil {
		return s.failed(err, answer.Again)
	}
	n = s.answered(answer)
	if n.changed {
		f.generation.Add(1)
	}
	return answer.Again, n
}

// follower knows the sources of the rows that there are.
type follower struct {
	upstreams func() []*rules.Upstream
	last      []*rules.Upstream
	urls      []string
}

func (w *follower) sources() []string {
	if w.upstreams == nil {
		return nil
	}
	list := w.upstreams()
	if slices.Equal(list, w.last) {
		return w.urls
	}
	w.last, w.urls = slices.Clone(list), nil
	for _, u := range list {
		for _, row := range u.Targets {
			if parsed, err := rules.ParseTarget(row.URL); err == nil && parsed.Kind != rules.SourceAddress {
				w.urls = append(w.urls, row.URL)
			}
		}
	}
	return w.urls
}
