package tlsbridge

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// memoryBudget is a BudgetStore of one process, and as short-lived.
type memoryBudget struct {
	mu    sync.Mutex
	uses  map[string]*usedKey
	holds map[string]BudgetHold
}

// usedKey is what was used of a budget, the oldest first.
type usedKey struct {
	at     []time.Time
	window time.Duration
}

// maxUsedKeys is how many budgets may be known before those that are full again are forgotten.
const maxUsedKeys = 20_000

func newMemoryBudget() *memoryBudget {
	return &memoryBudget{uses: map[string]*usedKey{}, holds: map[string]BudgetHold{}}
}

// Spend implements BudgetStore.
func (m *memoryBudget) Spend(_ context.Context, at time.Time, uses []BudgetUse) (BudgetHold, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, use := range uses {
		if h, ok := m.holds[use.Key]; ok && at.Before(h.Until) {
			return h, true, nil
		}
		if free, full := m.full(at, use); full {
			return BudgetHold{Key: use.Key, Until: free}, true, nil
		}
	}
	m.add(at, uses)
	return BudgetHold{}, false, nil
}

// note notes what was spent elsewhere.
func (m *memoryBudget) note(at time.Time, uses []BudgetUse) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(at, uses)
}

// full returns when a budget has room again, if it has none.
func (m *memoryBudget) full(at time.Time, use BudgetUse) (free time.Time, full bool) {
	used := m.uses[use.Key]
	if used == nil {
		return time.Time{}, false
	}
	used.forget(at.Add(-use.Window))
	if len(used.at) < use.Limit {
		return time.Time{}, false
	}
	return used.at[len(used.at)-use.Limit].Add(use.Window), true
}

// forget forgets uses up to a time.
func (u *usedKey) forget(upTo time.Time) {
	u.at = slices.DeleteFunc(u.at, func(at time.Time) bool { return !at.After(upTo) })
}

func (m *memoryBudget) add(at time.Time, uses []BudgetUse) {
	if len(m.uses) > maxUsedKeys {
		maps.DeleteFunc(m.uses, func(_ string, u *usedKey) bool {
			u.forget(at.Add(-u.window))
			return len(u.at) == 0
		})
	}
	for _, use := range uses {
		if m.uses[use.Key] == nil {
			m.uses[use.Key] = &usedKey{}
		}
		used := m.uses[use.Key]
		used.window = use.Window
		used.forget(at.Add(-use.Window))
		used.at = append(used.at, at)
	}
}

// Used implements BudgetStore.
func (m *memoryBudget) Used(_ context.Context, key string, since time.Time) (n int, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if used := m.uses[key]; used != nil {
		for _, at := range used.at {
			if at.After(since) {
				n++
			}
		}
	}
	return n, nil
}

// Hold implements BudgetStore.
func (m *memoryBudget) Hold(_ context.Context, h BudgetHold) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(m.holds, func(_ string, h BudgetHold) bool { return !now.Before(h.Until) })
	m.holds[h.Key] = h
	return nil
}

// Holds implements BudgetStore.
func (m *memoryBudget) Holds(_ context.Context, after time.Time) (list []BudgetHold, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.holds {
		if h.Until.After(after) {
			list = append(list, h)
		}
	}
	return list, nil
}
