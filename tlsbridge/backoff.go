package tlsbridge

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Attempt is a name whose certificate could not be had.
type Attempt struct {
	Name     string    // in normal form
	Failures int       // in a row
	Next     time.Time // no further attempt before
	Error    string    // of the last one
	At       time.Time // of the last one
}

// AttemptStore keeps attempts, across restarts and for all processes on the same storage.
type AttemptStore interface {
	Attempt(ctx context.Context, name string) (a Attempt, known bool, err error)
	Attempts(ctx context.Context) ([]Attempt, error)
	SaveAttempt(ctx context.Context, a Attempt) error
	DeleteAttempt(ctx context.Context, name string) error
}

// backOff holds names back that failed. Let's Encrypt allows five failed authorisations an hour and recommends this
// schedule.
type backOff struct {
	store AttemptStore // may be nil
	log   *slog.Logger

	mu      sync.Mutex
	names   map[string]Attempt
	unsaved map[string]Attempt // what the store should have: it could not be written
}

// The last steps of delay.
const (
	maxSteps  = 4
	stepsByCA = 2
)

// maxFailures is how many names may be known. Strangers can make names up where a rule says certificate = any.
const maxFailures = 10_000

// brokenOff is the error of an order from its beginning to its end: what stays, should the process end before.
const brokenOff = "the order was broken off: the process that made it ended"

// delay returns how long a name waits after so many failures in a row: 1 minute, 10, 100, then a day; ±20 %, so that
// many names do not come at once.
func delay(failures int) time.Duration {
	steps := []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}
	step := steps[min(max(failures, 1), len(steps))-1]
	return jittered(step)
}

// loadBackOff reads what is kept. A store that cannot be read costs the memory of failures, not the start.
func loadBackOff(ctx context.Context, store AttemptStore, log *slog.Logger) *backOff {
	b := &backOff{store: store, log: log, names: map[string]Attempt{}, unsaved: map[string]Attempt{}}
	if store == nil {
		return b
	}
	attempts, err := store.Attempts(ctx)
	if err != nil {
		log.Warn("failed certificate attempts from before are not known", slog.Any("error", err))
	}
	for _, a := range attempts {
		if a.Error != brokenOff { // else another process may be about to have the certificate: its visitors wait for that
			b.names[a.Name] = a
		}
	}
	return b
}

// meets is holds for who is about to order: it asks what other processes know, too.
func (b *backOff) meets(ctx context.Context, name string) (Attempt, bool) {
	if b.store == nil {
		return b.holds(name)
	}
	a, known, err := b.store.Attempt(ctx, name)
	if err != nil {
		b.log.Warn("what other processes know of a name's failures is not known", slog.String("name", name), slog.Any("error", err))
	}
	b.mu.Lock()
	if own, ok := b.unsaved[name]; ok && (!known || a.At.Before(own.At)) {
		a, known = own, true
	}
	switch {
	case known:
		b.keep(a)
	case err == nil:
		delete(b.names, name)
	}
	b.mu.Unlock()
	return b.holds(name)
}

// begin keeps an order before it is made, as one that failed: should the process end in the middle of it, the next one does not
// order again at once. Whoever begins has met, and says in the end how it went: by failed, failedByCA, withdraw or forget.
func (b *backOff) begin(ctx context.Context, name string) {
	b.mu.Lock()
	a := b.next(name, brokenOff, stepsByCA)
	b.mu.Unlock()
	b.save(ctx, a)
}

// withdraw takes back a begin that counts as no failure.
func (b *backOff) withdraw(ctx context.Context, name string) {
	if a, known := b.last(name); known {
		b.save(ctx, a)
		return
	}
	if err := b.forget(ctx, name); err != nil {
		b.log.Warn("an order that was not made is still kept", slog.String("name", name), slog.Any("error", err))
	}
}

// keep keeps an attempt in memory, and makes room for it.
func (b *backOff) keep(a Attempt) {
	if _, known := b.names[a.Name]; !known && len(b.names) >= maxFailures {
		list := slices.SortedFunc(maps.Values(b.names), lessUseful(time.Now()))
		for _, least := range list[:maxFailures/10] {
			delete(b.names, least.Name)
		}
	}
	b.names[a.Name] = a
}

// lessUseful sorts what may be forgotten first to the front: what waits no longer, what failed once, and then the oldest.
func lessUseful(now time.Time) func(a, b Attempt) int {
	waits := func(a Attempt) int {
		if now.Before(a.Next) {
			return 1
		}
		return 0
	}
	return func(a, b Attempt) int {
		return cmp.Or(cmp.Compare(waits(a), waits(b)), cmp.Compare(a.Failures, b.Failures), a.At.Compare(b.At))
	}
}

// next is what a name's next failure makes of it.
func (b *backOff) next(name, cause string, steps int) Attempt {
	a := Attempt{Name: name, Failures: b.names[name].Failures + 1, At: time.Now(), Error: cause}
	a.Next = a.At.Add(delay(min(a.Failures, steps)))
	return a
}

func (b *backOff) save(ctx context.Context, a Attempt) {
	if b.store == nil {
		return
	}
	err := b.store.SaveAttempt(context.WithoutCancel(ctx), a)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		delete(b.unsaved, a.Name)
		return
	}
	b.log.Warn("a certificate attempt is not kept", slog.String("name", a.Name), slog.Any("error", err))
	if len(b.unsaved) >= maxFailures {
		clear(b.unsaved)
	}
	b.unsaved[a.Name] = a
}

// holds returns the attempt that a name waits after, if it must wait.
func (b *backOff) holds(name string) (Attempt, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.names[name]
	return a, ok && time.Now().Before(a.Next)
}

func (b *backOff) failed(ctx context.Context, name string, cause error) Attempt {
	return b.note(ctx, name, cause, maxSteps)
}

// failedByCA is failed where the CA is to blame: a name need not wait for long after the CA's return.
func (b *backOff) failedByCA(ctx context.Context, name string, cause error) Attempt {
	return b.note(ctx, name, cause, stepsByCA)
}

// last returns the last failure of a name, if it had no certificate since.
func (b *backOff) last(name string) (Attempt, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, ok := b.names[name]
	return a, ok
}

func (b *backOff) note(ctx context.Context, name string, cause error, steps int) Attempt {
	b.mu.Lock()
	a := b.next(name, cause.Error(), steps)
	b.keep(a)
	b.mu.Unlock()
	b.log.Warn("a certificate could not be had", slog.String("name", name), slog.Int("failures", a.Failures), slog.Time("next", a.Next), slog.Any("error", cause))
	b.save(ctx, a)
	return a
}

// forget lets a name be tried at once.
func (b *backOff) forget(ctx context.Context, name string) error {
	b.mu.Lock()
	delete(b.names, name)
	delete(b.unsaved, name)
	b.mu.Unlock()
	if b.store == nil {
		return nil
	}
	return b.store.DeleteAttempt(context.WithoutCancel(ctx), name)
}

// waiting returns the names that wait, sorted.
func (b *backOff) waiting() []Attempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []Attempt
	for _, a := range b.names {
		if time.Now().Before(a.Next) {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b Attempt) int { return strings.Compare(a.Name, b.Name) })
	return list
}
