package units

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestInstallSaysWhatChanged(t *testing.T) {
	dir := t.TempDir()
	all, err := Install(dir, Options{})
	if err != nil || !slices.Contains(all, "cutover.service") || !slices.Contains(all, "cutover.sysusers") {
		t.Fatalf("first: %q, %v", all, err)
	}
	if again, err := Install(dir, Options{}); err != nil || len(again) > 0 {
		t.Errorf("again: %q, %v", again, err)
	}
	moved, err := Install(dir, Options{Binary: "/srv/cutover/bin/cutover-2"})
	if err != nil || !slices.Equal(moved, []string{"cutover-dns@.service", "cutover.service"}) {
		t.Errorf("another program: %q, %v", moved, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "cutover.service"))
	if err != nil || !strings.Contains(string(text), "ExecStart=/srv/cutover/bin/cutover-2 supervise\n") {
		t.Errorf("%v\n%s", err, text)
	}
	if err := os.WriteFile(filepath.Join(dir, "cutover-http.socket"), []byte("edited"), 0o600); err != nil {
		t.Fatal(err)
	}
	if mended, err := Install(dir, Options{Binary: "/srv/cutover/bin/cutover-2"}); err != nil || !slices.Equal(mended, []string{"cutover-http.socket"}) {
		t.Errorf("after an edit: %q, %v", mended, err)
	}
}

func TestInstalledUnitsAreReadableAndNothingElseIsLeft(t *testing.T) {
	dir := t.TempDir()
	if _, err := Install(dir, Options{Admin: true}); err != nil {
		t.Fatal(err)
	}
	files, err := Files(Options{Admin: true})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		found++
		info, err := entry.Info()
		if err == nil && info.Mode() != 0o644 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil || found != len(files) {
		t.Errorf("%d files for %d units: %v", found, len(files), err)
	}
}

func TestAnUnwritableFolderIsAnErrorThatNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "cutover.service"), 0o755); err != nil { // in the way, even of root
		t.Fatal(err)
	}
	if _, err := Install(dir, Options{}); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "cutover.service")) {
		t.Errorf("got %v", err)
	}
}

func TestAProgramWhosePathSystemdWouldReadDifferentlyIsRefused(t *testing.T) {
	for _, path := range []string{"cutover", "./cutover", "/opt/my cutover", "/opt/%n", "/opt/$HOME", "/opt/a\nExecStartPre=/b", `/opt/"a"`, "/opt/a;b", "/opt/a\\x20b", "/opt/ä"} {
		if files, err := Files(Options{Binary: path}); err == nil {
			t.Errorf("%q was taken, into %d files", path, len(files))
		}
	}
}
