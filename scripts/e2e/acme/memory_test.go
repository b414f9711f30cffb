package acme

import (
	"context"
	"maps"
	"slices"
	"sync"

	"cutover/tlsbridge"
)

// memory keeps attempts as observed.db does.
type memory struct {
	mu   sync.Mutex
	list map[string]tlsbridge.Attempt
}

func (m *memory) Attempts(context.Context) ([]tlsbridge.Attempt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.list)), nil
}

func (m *memory) Attempt(_ context.Context, name string) (tlsbridge.Attempt, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, known := m.list[name]
	return a, known, nil
}

func (m *memory) SaveAttempt(_ context.Context, a tlsbridge.Attempt) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list[a.Name] = a
	return nil
}

func (m *memory) DeleteAttempt(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.list, name)
	return nil
}
