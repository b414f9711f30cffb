package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"cutover/systemd/release"
)

// start starts a slot, and returns when it is healthy.
func (m *Manager) start(ctx context.Context, name, slot string, a App) error {
	_ = os.Remove(m.Places.starts(name, slot)) // no pause for what was long ago
	for _, kind := range []string{"socket", "service"} {
		if _, err := release.Systemctl(ctx, "start", Unit(name, slot, kind)); err != nil {
			return err
		}
	}
	return m.awaitHealthy(ctx, name, slot, a)
}

// mostDeaths is how often a program may die before it is good.
const mostDeaths = 2

var errDies = errors.New("it ends again and again")

// awaitHealthy returns when a slot answers well, or the last reason why not.
func (m *Manager) awaitHealthy(ctx context.Context, name, slot string, a App) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.Patience, fmt.Errorf("for %v", m.Patience))
	defer cancel()
	began := time.Now()
	for {
		err := m.tryHealth(ctx, name, slot, a)
		if err == nil {
			return nil
		}
		if _, restarts, _ := state(ctx, Unit(name, slot, "service")); restarts > mostDeaths { // it was begun by hand, which makes it 0
			return fmt.Errorf("%w: %w", errDies, err)
		}
		m.Progress(fmt.Sprintf("waiting for %s, %v of %v: %v", Unit(name, slot, "service"), time.Since(began).Round(time.Second), m.Patience, err))
		if pause(ctx, 200*time.Millisecond) != nil {
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}
}

// oneTry bounds a single question.
const oneTry = 5 * time.Second

// tryHealth asks once. A program that only accepts must still be there a second later.
func (m *Manager) tryHealth(ctx context.Context, name, slot string, a App) error {
	ctx, cancel := context.WithTimeout(ctx, oneTry)
	defer cancel()
	socket, unit := m.Places.Socket(name, slot), Unit(name, slot, "service")
	if a.Health != "" {
		return askHealth(ctx, socket, a.Protocol, a.Health)
	}
	first, _, err := state(ctx, unit)
	if err != nil {
		return err
	}
	if err := awaitAccepted(ctx, socket); err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	last, _, err := state(ctx, unit)
	if err == nil && first != last {
		err = errors.New("its process has ended")
	}
	return err
}

// state returns the process of a service that is up, and how often systemd has restarted it.
func state(ctx context.Context, unit string) (pid, restarts int, err error) {
	text, err := release.Systemctl(ctx, "show", "--property=ActiveState,SubState,MainPID,NRestarts", unit)
	if err != nil {
		return 0, 0, err
	}
	values := release.Properties(text)
	restarts, _ = strconv.Atoi(values["NRestarts"])
	pid, _ = strconv.Atoi(values["MainPID"])
	if values["ActiveState"] != "active" || pid == 0 {
		return 0, restarts, fmt.Errorf("it is %s (%s)", values["ActiveState"], values["SubState"])
	}
	return pid, restarts, nil
}
