package takeover

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// role is a worker that notes what it is told.
type role struct {
	mu      sync.Mutex
	state   State
	told    []string
	changed chan struct{}
	refusal error
}

func newRole() *role { return &role{state: Serving, changed: make(chan struct{}, 100)} }

func (r *role) note(what string, state State) {
	r.mu.Lock()
	r.told, r.state = append(r.told, what), state
	r.mu.Unlock()
	r.changed <- struct{}{}
}

func (r *role) Worker() Worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Worker{PID: 1, Version: "old", State: r.state, Holds: Holds{Connections: 3}}
}

func (r *role) Prepare(context.Context) error {
	if r.refusal != nil {
		return r.refusal
	}
	r.note("prepare", Serving)
	return nil
}

func (r *role) Pause()                 { r.note("pause", Paused) }
func (r *role) Resume(context.Context) { r.note("resume", Serving) }
func (r *role) Commit()                { r.note("commit", Draining) }
func (r *role) End()                   { r.note("end", Draining) }

// expect waits until the role was told exactly this.
func (r *role) expect(t *testing.T, want ...string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		got := slices.Clone(r.told)
		r.mu.Unlock()
		if slices.Equal(got, want) {
			return
		}
		select {
		case <-r.changed:
		case <-timeout:
			t.Fatalf("told %q, want %q", got, want)
		}
	}
}

// serve runs a server for the role until the test ends, or until the function is called that it returns.
func serve(t *testing.T, dir string, r Role) (stop func()) {
	t.Helper()
	s := &Server{Dir: dir, Role: r}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for Workers(t.Context(), dir) == nil {
		if t.Context().Err() != nil {
			t.Fatal("the server does not answer")
		}
	}
	if err := s.Announce(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func find(t *testing.T, dir string) *Successor {
	t.Helper()
	s, err := Find(t.Context(), dir, Worker{PID: 2, Version: "new"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Abandon)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refusedWith(t *testing.T, err error, reason string) {
	t.Helper()
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Reason != reason {
		t.Errorf("got %v, want %q", err, reason)
	}
}
