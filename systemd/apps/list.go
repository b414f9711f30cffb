package apps

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Status is a program as it is right now.
type Status struct {
	Name     string `json:"name"`
	Target   string `json:"target"` // the URL that targets of upstreams have for it
	Slot     string `json:"slot"`
	Unit     string `json:"unit"`
	State    string `json:"state"` // running, or what it is instead
	PID      int    `json:"pid"`
	Restarts int    `json:"restarts"` // by systemd, since it was last started by hand
	Socket   string `json:"socket"`
	Accepted int    `json:"accepted"` // connections
	Waiting  int    `json:"waiting"`  // connections that it has not accepted yet
	Runs     string `json:"runs"`     // the path of its executable
	Before   string `json:"before"`   // of the one that a rollback goes back to; empty for none
	Beside   string `json:"beside"`   // the unit of the other slot, if that is up: a deploy is under way, or was cut off
	Problem  string `json:"problem"`  // that keeps it from being looked at
	App      App    `json:"settings"`
}

// List returns every program, sorted by name.
func (m *Manager) List(ctx context.Context) ([]Status, error) {
	files, err := filepath.Glob(filepath.Join(m.Places.Apps, "*.toml"))
	list := make([]Status, 0, len(files))
	for _, file := range files { // sorted
		name := strings.TrimSuffix(filepath.Base(file), ".toml")
		status, err := m.Show(ctx, name)
		if err != nil {
			status = Status{Name: name, Problem: err.Error()}
		}
		list = append(list, status)
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return list, err
}

// Show returns how a program is.
func (m *Manager) Show(ctx context.Context, name string) (Status, error) {
	a, c, err := m.Read(name)
	if err != nil {
		return Status{}, err
	}
	s := Status{
		Name: name, Target: target(c.Protocol, name), Slot: c.Slot, Unit: Unit(name, c.Slot, "service"), State: "running",
		Socket: m.Places.Socket(name, c.Slot), Runs: c.Executables[c.Slot], App: a,
	}
	s.Before = c.Executables[c.other()]
	if s.PID, s.Restarts, err = state(ctx, s.Unit); err != nil {
		s.State = strings.TrimPrefix(err.Error(), "it is ")
	}
	s.Beside = m.beside(ctx, name, c.other())
	s.Accepted, s.Waiting, _ = connections(s.Socket) // without them there is still the rest
	return s, nil
}

// beside returns the unit of a slot that does not serve, and is up nevertheless.
func (m *Manager) beside(ctx context.Context, name, slot string) string {
	unit := Unit(name, slot, "service")
	if _, err := os.Stat(m.Places.dropIn(name, slot, "service")); err != nil {
		return ""
	}
	if _, _, err := state(ctx, unit); err != nil {
		return ""
	}
	return unit
}
