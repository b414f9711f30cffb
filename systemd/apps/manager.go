package apps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"cutover/systemd/release"
	"cutover/systemd/units"
)

// Manager changes what programs there are. It needs root.
type Manager struct {
	Places   Places
	Say      func(format string, values ...any) // tells of each step
	Progress func(text string)                  // is told how a wait goes
	Patience time.Duration                      // until a program that was started must be healthy
	Drain    time.Duration                      // that requests of the executable before may take to end

	owner uint32 // of the files: root
}

var (
	// ErrTemplates says that systemd does not know the units which programs are made of.
	ErrTemplates = errors.New("the units cutover-app@.socket and cutover-app@.service are not installed")
	// ErrThere says that there is a program of the name.
	ErrThere = errors.New("is there already")
	// ErrUnknown says that there is none.
	ErrUnknown = errors.New("there is no program of this name")
	// ErrUnfinished says that there is half a program: adding it was cut off, or its NAME.current was removed.
	ErrUnfinished = errors.New("was not added to the end")
)

// Unhealthy says that a program was started and did not become good.
type Unhealthy struct {
	Unit   string // whose journal says more
	Then   string // what was done about it
	Reason error
}

func (e *Unhealthy) Error() string {
	return fmt.Sprintf("%s is not healthy: %v; %s", e.Unit, e.Reason, e.Then)
}
func (e *Unhealthy) Unwrap() error { return e.Reason }

// lock keeps every other change out; the error is release.ErrBusy then.
func (m *Manager) lock() (unlock func(), err error) {
	for _, kind := range []string{"socket", "service"} {
		if _, err := os.Stat(filepath.Join(m.Places.Units, "cutover-app@."+kind)); err != nil {
			return nil, ErrTemplates
		}
	}
	return release.Folder{Root: m.Places.Programs}.Lock()
}

// reader returns a reader of the same files.
func (m *Manager) reader() *Reader {
	r := NewReader(m.Places)
	r.owner = m.owner
	return r
}

// Read returns what NAME.toml and NAME.current say. It believes neither if others than root could have written it.
func (m *Manager) Read(name string) (App, Current, error) {
	if err := CheckName(name); err != nil {
		return App{}, Current{}, err
	}
	r := m.reader()
	text, err := r.text(m.Places.file(name))
	if errors.Is(err, fs.ErrNotExist) {
		return App{}, Current{}, fmt.Errorf("%s: %w", name, ErrUnknown)
	}
	if err != nil {
		return App{}, Current{}, err
	}
	a, err := Parse(text)
	if err != nil {
		return a, Current{}, fmt.Errorf("%s: %w", m.Places.file(name), err)
	}
	c, err := r.read(name)
	if _, missing := os.Stat(m.Places.currentFile(name)); errors.Is(missing, fs.ErrNotExist) {
		err = fmt.Errorf("%s %w: %s is missing", name, ErrUnfinished, m.Places.currentFile(name))
	}
	return a, c, err
}

// Add makes a program, starts it, and waits until it is healthy. If it does not become so, nothing is left of it.
func (m *Manager) Add(ctx context.Context, name string, a App) error {
	if err := errors.Join(CheckName(name), a.Validate()); err != nil {
		return err
	}
	if err := errors.Join(m.canRun(a), checkVisible(a.Exec[0])); err != nil {
		return err
	}
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(m.Places.file(name)); err == nil {
		return fmt.Errorf("%s %w", name, ErrThere)
	}
	text, err := a.text()
	if err != nil {
		return err
	}
	m.Say("writing %s", m.Places.file(name))
	err = units.Replace(m.Places.file(name), text) // first, so that it can be listed and removed, whatever ends this
	if err == nil {
		err = m.begin(ctx, name, a)
	}
	if err == nil {
		err = m.writeCurrent(name, Current{Slot: "a", Protocol: a.Protocol}.with("a", a.Exec[0], a.Exec[0]))
	}
	if err != nil {
		return errors.Join(err, m.remove(context.WithoutCancel(ctx), name))
	}
	return nil
}

func (m *Manager) begin(ctx context.Context, name string, a App) error {
	m.Say("writing the units of %s", name)
	if err := m.writeUnits(ctx, name, "a", a, a.Exec[0]); err != nil {
		return err
	}
	m.Say("starting it, now and at each boot")
	if err := m.start(ctx, name, "a", a); err != nil {
		return unhealthy(err, name, "a", "nothing is left of it")
	}
	return m.enable(ctx, name, "a")
}

// canRun finds mistakes before anything is written. The file that will run is checked by itself.
func (m *Manager) canRun(a App) error {
	account, err := user.Lookup(a.User)
	if err != nil {
		return fmt.Errorf("user %s: %w", a.User, err)
	}
	ours := ""
	if cutover, err := user.Lookup("cutover"); err == nil { // without that user there is nothing of it
		ours = cutover.Uid
	}
	if err := a.checkAccount(account.Uid, ours); err != nil {
		return err
	}
	if a.Workdir != "" {
		if info, err := os.Stat(a.Workdir); err != nil || !info.IsDir() {
			return fmt.Errorf("workdir %s is no folder", a.Workdir)
		}
	}
	return checkTemporary(a.Workdir)
}

func checkTemporary(path string) error {
	if strings.HasPrefix(path, "/tmp/") || strings.HasPrefix(path, "/var/tmp/") {
		return fmt.Errorf("%s cannot be seen by the program: it has a /tmp and a /var/tmp of its own", path)
	}
	return nil
}

// checkVisible checks an executable that is run where it is.
func checkVisible(path string) error { return errors.Join(checkTemporary(path), checkFile(path)) }

func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s cannot be executed: it is no plain file with mode x", path)
	}
	return nil
}

func (m *Manager) writeUnits(ctx context.Context, name, slot string, a App, executable string) error {
	err := errors.Join(
		units.Replace(m.Places.dropIn(name, slot, "service"), m.Places.serviceText(name, a, executable)),
		units.Replace(m.Places.dropIn(name, slot, "socket"), m.Places.socketText(name, a)),
	)
	if err != nil {
		return err
	}
	_, err = release.Systemctl(ctx, "daemon-reload")
	return err
}

func (m *Manager) writeCurrent(name string, c Current) error {
	text := strings.Builder{}
	text.WriteString("# Written by 'cutover app': which slot serves, and what each of them runs.\n")
	if err := toml.NewEncoder(&text).Encode(c); err != nil {
		return err
	}
	return units.Replace(m.Places.currentFile(name), text.String())
}

func (m *Manager) enable(ctx context.Context, name, slot string) error {
	_, err := release.Systemctl(ctx, "enable", "--quiet", Unit(name, slot, "socket"), Unit(name, slot, "service"))
	return err
}

// disable keeps a slot from being started at boot. It may never have been enabled.
func (m *Manager) disable(ctx context.Context, name, slot string) {
	_, _ = release.Systemctl(ctx, "disable", "--quiet", Unit(name, slot, "socket"), Unit(name, slot, "service"))
}

// end stops a slot, now and at the next boot. Its socket goes first, so that nothing starts it again.
func (m *Manager) end(ctx context.Context, name, slot string) error {
	m.disable(ctx, name, slot)
	_, err := release.Systemctl(ctx, "stop", Unit(name, slot, "socket"), Unit(name, slot, "service"))
	_, _ = release.Systemctl(ctx, "reset-failed", Unit(name, slot, "socket"), Unit(name, slot, "service")) // fails if it has not failed
	return err
}

// endLeft ends a slot that a deploy which was cut off may have left.
func (m *Manager) endLeft(ctx context.Context, name, slot string) error {
	if _, err := os.Stat(m.Places.dropIn(name, slot, "service")); err != nil {
		return nil //nolint:nilerr // it was never used
	}
	return m.end(ctx, name, slot)
}

// Remove ends a program and forgets it. Its executables that were deployed go with it.
func (m *Manager) Remove(ctx context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(m.Places.file(name)); err != nil {
		return fmt.Errorf("%s: %w", name, ErrUnknown)
	}
	return m.remove(ctx, name)
}

func (m *Manager) remove(ctx context.Context, name string) error {
	var problems []error
	for _, slot := range []string{"a", "b"} {
		if _, err := os.Stat(m.Places.dropIn(name, slot, "service")); err == nil {
			m.Say("ending %s", Unit(name, slot, "service"))
			problems = append(problems, m.end(ctx, name, slot))
		}
		for _, path := range []string{filepath.Dir(m.Places.dropIn(name, slot, "service")), filepath.Dir(m.Places.dropIn(name, slot, "socket")), m.Places.startsFolder(name, slot)} {
			problems = append(problems, os.RemoveAll(path))
		}
	}
	for _, path := range []string{m.Places.currentFile(name), m.Places.file(name), filepath.Join(m.Places.Programs, name)} {
		problems = append(problems, os.RemoveAll(path))
	}
	_, err := release.Systemctl(ctx, "daemon-reload")
	return errors.Join(append(problems, err)...)
}

// Restart takes up what was changed in NAME.toml, and starts the program anew. Requests wait meanwhile. It runs the same file as
// before, unless exec names another one than when that was added or deployed.
func (m *Manager) Restart(ctx context.Context, name string) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	a, c, err := m.Read(name)
	if err != nil {
		return err
	}
	executable, check := c.executable(c.Slot, a), checkVisible
	if executable != a.Exec[0] {
		check = checkFile // a copy of ours
	}
	if err := errors.Join(m.canRun(a), check(executable), m.endLeft(ctx, name, c.other())); err != nil {
		return err
	}
	if err := m.writeUnits(ctx, name, c.Slot, a, executable); err != nil {
		return err
	}
	_ = os.Remove(m.Places.starts(name, c.Slot)) // who asks for it does not wait for it
	if _, err := release.Systemctl(ctx, "restart", Unit(name, c.Slot, "service")); err != nil {
		return unhealthy(err, name, c.Slot, "requests wait for it")
	}
	if err := m.awaitHealthy(ctx, name, c.Slot, a); err != nil {
		return unhealthy(err, name, c.Slot, "requests wait for it")
	}
	c.Protocol = a.Protocol
	return m.writeCurrent(name, c.with(c.Slot, executable, a.Exec[0]))
}

func unhealthy(err error, name, slot, then string) error {
	return &Unhealthy{Unit: Unit(name, slot, "service"), Then: then, Reason: err}
}
