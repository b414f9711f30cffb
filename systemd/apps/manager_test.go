package apps

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
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
	if err := m.writeCurrent(name, Current{Slot: "a", Protocol: a.Protocol}.with("a", a.Exec[0], a.Exec[0])); err != nil {
		t.Fatal(err)
	}
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

// onSystemd stands in for systemctl: services are up, slots a and b answer on their sockets, and a command with one of the words
// in refused fails. It returns how the commands that were run can be read.
func (m *Manager) onSystemd(t *testing.T, name string, refused ...string) (commands func() string) {
	t.Helper()
	folder := t.TempDir()
	script := "#!/bin/sh\necho \"$*\" >>" + folder + "/log\ncase \"$*\" in\n"
	for _, word := range refused {
		script += "*'" + word + "'*) echo refused; exit 1 ;;\n"
	}
	script += "show*) printf 'ActiveState=active\\nSubState=running\\nMainPID=1\\nNRestarts=0\\n' ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(folder, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	for _, kind := range []string{"socket", "service"} {
		if err := units.Replace(filepath.Join(m.Places.Units, "cutover-app@."+kind), ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, slot := range []string{"a", "b"} {
		listener, err := net.Listen("unix", m.Places.Socket(name, slot))
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		_ = server.Listener.Close()
		server.Listener = listener
		server.Start()
		t.Cleanup(server.Close)
	}
	return func() string {
		text, err := os.ReadFile(filepath.Join(folder, "log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// shell writes a program, and returns its path.
func shell(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// runnable returns what may be said of a program, which runs as whoever runs the test.
func runnable(t *testing.T) App {
	t.Helper()
	account, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return App{Exec: []string{"/bin/sh"}, User: account.Username, Protocol: HTTP, Health: "/", AllowRoot: true}
}

func TestAnExecutableThatServesStaysThoughTheOneBeforeCannotBeEnded(t *testing.T) {
	m := managed(t)
	m.onSystemd(t, "shop", "stop cutover-app@shop:a.socket")
	m.knows(t, "shop", runnable(t))
	err := m.Deploy(t.Context(), "shop", shell(t, "new"))
	var lingers *Lingers
	if !errors.As(err, &lingers) || lingers.Unit != "cutover-app@shop:a.service" {
		t.Errorf("got %v", err)
	}
	_, c, err := m.Read("shop")
	if err != nil || c.Slot != "b" {
		t.Fatalf("slot %q serves (%v)", c.Slot, err)
	}
	if err := checkFile(c.Executables["b"]); err != nil {
		t.Errorf("what serves: %v", err)
	}
}

func TestASlotThatServesNoMoreIsNotStartedAtBootFromTheFirstMomentOn(t *testing.T) {
	m := managed(t)
	commands := m.onSystemd(t, "shop")
	m.knows(t, "shop", runnable(t))
	waits := ""
	m.Progress = func(text string) {
		if waits == "" && strings.HasPrefix(text, "waiting until slot a has finished") {
			waits = commands()
		}
	}
	if err := m.Deploy(t.Context(), "shop", shell(t, "new")); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(waits, "disable --quiet cutover-app@shop:a.socket") || strings.Contains(waits, "stop cutover-app@shop:a") {
		t.Errorf("when it began to wait it had run:\n%s", waits)
	}
}

// expectRuns expects the unit of a slot to run a file.
func (m *Manager) expectRuns(t *testing.T, name, slot, file string) {
	t.Helper()
	text, err := os.ReadFile(m.Places.dropIn(name, slot, "service"))
	if err != nil || !strings.Contains(string(text), "\nExecStart="+file+"\n") {
		t.Errorf("slot %s runs no %s (%v):\n%s", slot, file, err, text)
	}
}

func TestARestartTakesUpAnotherFileThatExecNames(t *testing.T) {
	m := managed(t)
	m.onSystemd(t, "shop")
	a := runnable(t)
	m.knows(t, "shop", a)
	if err := m.Restart(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	m.expectRuns(t, "shop", "a", "/bin/sh")
	a.Exec[0] = "/bin/true"
	text, err := a.text()
	if err == nil {
		err = units.Replace(m.Places.file("shop"), text)
	}
	if err == nil {
		err = m.Restart(t.Context(), "shop")
	}
	if err != nil {
		t.Fatal(err)
	}
	m.expectRuns(t, "shop", "a", "/bin/true")
	if status, err := m.Show(t.Context(), "shop"); err != nil || status.Runs != "/bin/true" {
		t.Errorf("it shows %q (%v)", status.Runs, err)
	}
}

func TestAFileThatExecNamedOnceNeedNotExistForADeploy(t *testing.T) {
	m := managed(t)
	m.onSystemd(t, "shop")
	a := runnable(t)
	a.Exec[0] = "/no/such/program"
	m.knows(t, "shop", a)
	if err := m.Deploy(t.Context(), "shop", shell(t, "new")); err != nil {
		t.Fatal(err)
	}
	if err := m.Restart(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if err := m.Rollback(t.Context(), "shop"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("back to a file that is gone: %v", err)
	}
}

func TestWhatASlotRunsIsWhatItRanUnlessExecNamesAnotherFile(t *testing.T) {
	c := Current{}.with("a", "/opt/one", "/opt/one").with("b", "/deployed", "/opt/one")
	for _, c := range []struct {
		c          Current
		slot, exec string
		want       string
	}{
		{c, "a", "/opt/one", "/opt/one"},
		{c, "b", "/opt/one", "/deployed"},
		{c, "b", "/opt/two", "/opt/two"},
		{c.with("a", "/deployed", "/opt/two"), "a", "/opt/two", "/deployed"}, // after a rollback
	} {
		if got := c.c.executable(c.slot, App{Exec: []string{c.exec}}); got != c.want {
			t.Errorf("slot %s with exec %s runs %s, want %s", c.slot, c.exec, got, c.want)
		}
	}
}

func TestAnAddThatWasCutOffIsListedAndCanBeRemoved(t *testing.T) {
	m := managed(t)
	m.onSystemd(t, "shop")
	seen := false
	m.Say = func(text string, _ ...any) {
		if !strings.HasPrefix(text, "starting it") {
			return
		}
		list, err := m.List(t.Context()) // as if nothing came afterwards
		if err != nil || len(list) != 1 || list[0].Name != "shop" || !strings.Contains(list[0].Problem, "was not added to the end") {
			t.Errorf("%+v, %v", list, err)
		}
		seen = true
	}
	if err := m.Add(t.Context(), "shop", runnable(t)); err != nil || !seen {
		t.Fatal(seen, err)
	}
	if err := os.Remove(m.Places.currentFile("shop")); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if list, err := m.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAnAddThatFailsLeavesNoFile(t *testing.T) {
	m := managed(t)
	m.onSystemd(t, "shop", "start cutover-app@shop:a.service")
	if err := m.Add(t.Context(), "shop", runnable(t)); err == nil {
		t.Fatal("it was added")
	}
	for _, folder := range []string{m.Places.Apps, m.Places.Programs} {
		if files, err := filepath.Glob(filepath.Join(folder, "shop*")); err != nil || len(files) > 0 {
			t.Errorf("left behind: %q (%v)", files, err)
		}
	}
}

func TestASlotThatADeployHasLeftIsShownAndEndsWithARestart(t *testing.T) {
	m := managed(t)
	commands := m.onSystemd(t, "shop")
	m.knows(t, "shop", runnable(t))
	if status, err := m.Show(t.Context(), "shop"); err != nil || status.Beside != "" {
		t.Errorf("before: %q (%v)", status.Beside, err)
	}
	if err := m.writeUnits(t.Context(), "shop", "b", runnable(t), "/bin/sh"); err != nil {
		t.Fatal(err)
	}
	if status, err := m.Show(t.Context(), "shop"); err != nil || status.Beside != "cutover-app@shop:b.service" {
		t.Errorf("left: %q (%v)", status.Beside, err)
	}
	if err := m.Restart(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(commands(), "\nstop cutover-app@shop:b.socket cutover-app@shop:b.service\n") {
		t.Errorf("it ran:\n%s", commands())
	}
}
