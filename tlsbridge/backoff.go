package tlsbridge

import (
	"context"
	"log/slog"
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

// AttemptStore keeps attempts across restarts.
type AttemptStore interface {
	Attempts(ctx context.Context) ([]Attempt, error)
	SaveAttempt(ctx context.Context, a Attempt) error
	DeleteAttempt(ctx context.Context, name string) error
}

// backOff holds names back that failed. Let's Encrypt allows five failed authorisations an hour and recommends this
// schedule.
type backOff struct {
	store AttemptStore // may be nil
	log   *slog.Logger

	mu    sync.Mutex
	names map[string]Attempt
}

// The last steps of delay.
const (
	maxSteps  = 4
	stepsByCA = 2
)

// delay returns how long a name waits after so many failures in a row: 1 minute, 10, 100, then a day; ±20 %, so that
// many names do not come at once.
func delay(failures int) time.Duration {
	steps := []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}
	step := steps[min(max(failures, 1), len(steps))-1]
	return jittered(step)
}

// loadBackOff reads what is kept. A store that cannot be read costs the memory of failures, not the start.
func loadBackOff(ctx context.Context, store AttemptStore, log *slog.Logger) *backOff {
	b := &backOff{store: store, log: log, names: map[string]Attempt{}}
	if store == nil {
		return b
	}
	attempts, err := store.Attempts(ctx)
	if err != nil {
		log.Warn("failed certificate attempts from before are not known", slog.Any("error", err))
	}
	for _, a := range attempts {
		b.names[a.Name] = a
	}
	return b
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
	a := Attempt{Name: name, Failures: b.names[name].Failures + 1, At: time.Now(), Error: cause.Error()}
	a.Next = a.At.Add(delay(min(a.Failures, steps)))
	b.names[name] = a
	b.mu.Unlock()
	b.log.Warn("a certificate could not be had", slog.String("name", name), slog.Int("failures", a.Failures), slog.Time("next", a.Next), slog.Any("error", cause))
	if b.store != nil {
		if err := b.store.SaveAttempt(context.WithoutCancel(ctx), a); err != nil {
			b.log.Warn("a failed certificate attempt is not kept", slog.String("name", name), slog.Any("error", err))
		}
	}
	return a
}

// forget lets a name be tried at once.
func (b *backOff) forget(ctx context.Context, name string) error {
	b.mu.Lock()
	_, known := b.names[name]
	delete(b.names, name)
	b.mu.Unlock()
	if !known || b.store == nil {
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
