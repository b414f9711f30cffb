package admin

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// socketDir returns a folder whose path is short enough for a socket.
func socketDir(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "adm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// serving runs s on a unix socket until the returned func, or the test, ends.
func serving(t *testing.T, s *Server, path string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	listener, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- s.ServeUnix(ctx, listener) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ServeUnix: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func dial(t *testing.T, path string) (net.Conn, error) {
	t.Helper()
	var dialer net.Dialer
	return dialer.DialContext(t.Context(), "unix", path)
}

func inode(path string) uint64 {
	var stat syscall.Stat_t
	if syscall.Lstat(path, &stat) != nil {
		return 0
	}
	return stat.Ino
}

func TestTheSocketIsForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(socketDir(t), "admin.sock")
	serving(t, &Server{}, path)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode is %v, want a socket with 0600", info.Mode())
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the socket there is %v (%v)", entries, err)
	}
}

func TestANewProcessTakesTheSocketOverWhileTheOldOneIsThere(t *testing.T) {
	path := filepath.Join(socketDir(t), "admin.sock")
	stopOld := serving(t, &Server{Store: openStore(t), Version: "old"}, path)
	connected, err := dial(t, path)
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()

	serving(t, &Server{Store: openStore(t), Version: "new"}, path)
	if got := versionAt(t, path); got != "new" {
		t.Errorf("at the path answers %q, want the new process", got)
	}
	if got := versionOver(t, connected); got != "old" {
		t.Errorf("on the open connection answers %q, want the old process", got)
	}

	stopOld()
	if got := versionAt(t, path); got != "new" {
		t.Errorf("after the old process has ended, %q answers: it took the socket of the new one along", got)
	}
}

func TestTheSocketOfADeadProcessIsReplaced(t *testing.T) {
	path := filepath.Join(socketDir(t), "admin.sock")
	stop := serving(t, &Server{}, path)
	stop()
	if _, err := dial(t, path); err == nil {
		t.Fatal("the stopped server still answers")
	}
	serving(t, &Server{Store: openStore(t), Version: "next"}, path)
	if got := versionAt(t, path); got != "next" {
		t.Errorf("answers %q", got)
	}
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	for name, prepare := range map[string]func(string) error{
		"file":   func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"folder": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":   func(path string) error { return os.Symlink("/etc/passwd", path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(socketDir(t), "admin.sock")
			if err := prepare(path); err != nil {
				t.Fatal(err)
			}
			before := inode(path)
			_, err := ListenUnix(path)
			if err == nil || !strings.Contains(err.Error(), "no socket") {
				t.Errorf("ListenUnix = %v, want an error that says it is no socket", err)
			}
			if inode(path) != before {
				t.Error("what was there is gone")
			}
		})
	}
}

func TestAPathThatIsTooLongIsSaidSo(t *testing.T) {
	folder := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := ListenUnix(filepath.Join(folder, "admin.sock"))
	if err == nil || !strings.Contains(err.Error(), "107 characters") {
		t.Errorf("ListenUnix = %v, want the limit", err)
	}
}
