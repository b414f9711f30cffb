package apps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cutover/systemd/units"
)

// managed returns a manager of what is below a folder of the test, where whoever runs the test is taken for root.
func managed(t *testing.T) *Manager {
	t.Helper()
	root := t.TempDir()
	below := func(name string) string { return filepath.Join(root, name) }
	p := Places{Apps: below("apps"), Units: below("units"), Programs: below("programs"), Sockets: below("s"), Starts: below("starts"), Binary: below("cutover")}
	for _, folder := range []string{p.Apps, p.Units, p.Programs, p.Sockets} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &Manager{
		Places: p, Say: t.Logf, Progress: func(string) {}, Patience: time.Minute, Drain: time.Minute, owner: uint32(os.Getuid()),
	}
}

// knows writes what root has said of a program that serves in slot a.
func (m *Manager) knows(t *testing.T, name string, a App) {
	t.Helper()
	text, err := a.text()
	if err != nil {
		t.Fatal(err)
	}
	if err := units.Replace(m.Places.file(name), text); err != nil {
		t.Fatal(err)
	}
	m.Places.says(t, name, "slot = 'a'\nprotocol = '"+a.Protocol+"'\n[executables]\na = ''")
}

func TestWhatIsSaidOfAProgramIsNotBelievedIfOthersCouldHaveWrittenIt(t *testing.T) {
	m := managed(t)
	m.knows(t, "shop", good())
	if _, _, err := m.Read("shop"); err != nil {
		t.Fatal(err)
	}
	file := m.Places.file("shop")
	if err := os.Chmod(file, 0o664); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Read("shop"); err == nil || !strings.Contains(err.Error(), file+" could have been written by others than root") {
		t.Errorf("with mode 664: %v", err)
	}
	if err := os.Rename(file, file+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file+".moved", file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Read("shop"); err == nil || !strings.Contains(err.Error(), "is a symbolic link") {
		t.Errorf("behind a link: %v", err)
	}
}
