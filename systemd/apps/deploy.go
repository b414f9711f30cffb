package apps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cutover/systemd/release"
)

// ErrFirst says that a program has had no executable before the one that serves.
var ErrFirst = errors.New("there is no executable before the one that serves")

// Lingers says that a new executable serves, but the one before could not be ended.
type Lingers struct {
	Unit   string // of the one before
	Reason error
}

func (e *Lingers) Error() string {
	return fmt.Sprintf("the new executable serves, but %s, which does no more, was not ended: %v", e.Unit, e.Reason)
}
func (e *Lingers) Unwrap() error { return e.Reason }

// Deploy copies an executable, starts it in the slot that does not serve, and lets that serve once it is healthy. The one before
// ends when its requests have; if that cannot be ended, the error is a *Lingers, and the new one serves. If it does not become
// healthy, the one before serves on. What ctx ends before the change from one to the other is undone; afterwards it is not looked
// at.
func (m *Manager) Deploy(ctx context.Context, name, file string) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	a, c, err := m.Read(name)
	if err == nil {
		err = errors.Join(checkFile(file), m.canRun(a))
	}
	if err != nil {
		return err
	}
	path, err := m.put(name, file)
	if err != nil {
		return err
	}
	if err := m.change(ctx, name, a, c, path); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return errors.Join(m.retire(ctx, name, c.Slot), m.prune(name))
}

// Rollback lets the executable before the one that serves do so again. Twice goes forth again.
func (m *Manager) Rollback(ctx context.Context, name string) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	a, c, err := m.Read(name)
	if err != nil {
		return err
	}
	executable, known := c.Executables[c.other()]
	if !known {
		return fmt.Errorf("%s: %w", name, ErrFirst)
	}
	if err := errors.Join(checkFile(executable), m.canRun(a)); err != nil {
		return err
	}
	if err := m.change(ctx, name, a, c, executable); err != nil {
		return err
	}
	return m.retire(ctx, name, c.Slot)
}

// put copies an executable to where root alone can change it.
func (m *Manager) put(name, file string) (string, error) {
	folder := filepath.Join(m.Places.Programs, name)
	path := filepath.Join(folder, name+"-"+time.Now().UTC().Format("20060102150405.000"))
	if err := checkExecutable(path); err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	m.Say("copying %s to %s", file, path)
	if err := release.CopyFile(file, path); err != nil {
		return "", errors.Join(err, os.RemoveAll(path))
	}
	return path, nil
}

// change starts an executable in the slot that does not serve, and lets it serve. After an error the slot before serves on.
func (m *Manager) change(ctx context.Context, name string, a App, c Current, executable string) error {
	before, after := c.Slot, c.other()
	m.Say("starting it in slot %s, beside slot %s, which serves", after, before)
	err := m.end(ctx, name, after) // what an attempt before may have left
	if err == nil {
		err = m.writeUnits(ctx, name, after, a, executable)
	}
	if err == nil {
		err = m.start(ctx, name, after, a)
	}
	if err == nil {
		err = m.enable(ctx, name, after)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return errors.Join(unhealthy(err, name, after, "slot "+before+" serves on"), m.end(context.WithoutCancel(ctx), name, after))
	}
	ctx = context.WithoutCancel(ctx)
	next := c.with(after, executable, a.Exec[0])
	next.Slot, next.Protocol = after, a.Protocol
	m.Say("it is healthy; letting it serve")
	if err := m.writeCurrent(name, next); err != nil {
		return errors.Join(err, m.end(ctx, name, after))
	}
	return nil
}

// retire ends a slot that serves no more, once its requests have ended. It is not started at boot from the first moment on.
func (m *Manager) retire(ctx context.Context, name, slot string) error {
	ctx = context.WithoutCancel(ctx)
	m.disable(ctx, name, slot)
	m.drain(ctx, name, slot)
	m.Say("ending slot %s", slot)
	if err := m.end(ctx, name, slot); err != nil {
		return &Lingers{Unit(name, slot, "service"), err}
	}
	return nil
}

// noticed is within what time the proxy asks for the new slot: it looks every second.
const noticed = 3 * time.Second

// drain returns when nobody is connected to a slot that serves no more, and nobody was for a while; or it is too late.
func (m *Manager) drain(ctx context.Context, name, slot string) {
	socket, began := m.Places.Socket(name, slot), time.Now()
	quiet := began
	for {
		accepted, waiting, err := connections(socket)
		switch now := time.Now(); {
		case err != nil:
			m.Say("its connections cannot be counted: %v", err)
			accepted = 1 // there may be some
			fallthrough
		case accepted+waiting > 0:
			quiet = now
		}
		passed := time.Since(began)
		if passed >= noticed && time.Since(quiet) >= time.Second {
			return
		}
		if passed >= max(m.Drain, noticed) {
			m.Say("%d connections to slot %s are still open after %v", accepted+waiting, slot, passed.Round(time.Second))
			return
		}
		m.Progress(fmt.Sprintf("waiting until slot %s has finished: %d connections, %v of %v", slot, accepted+waiting, passed.Round(time.Second), m.Drain))
		_ = pause(ctx, 100*time.Millisecond) // nothing ends this ctx
	}
}

// keep is how many executables stay, those of the slots aside.
const keep = 5

// prune removes old executables.
func (m *Manager) prune(name string) error {
	c, err := m.reader().read(name)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(m.Places.Programs, name, name+"-*"))
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(b, a) }) // by name, which is by time
	used := slices.Collect(maps.Values(c.Executables))
	for i, file := range files {
		if i >= keep && !slices.Contains(used, file) {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}
