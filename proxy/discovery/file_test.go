package discovery

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cutover/rules"
)

// written is a file of targets, last changed long ago, and its lookup.
func written(t *testing.T, text string) (path string, lookup Lookup) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "web")
	write(t, path, text)
	return path, Files{Dir: dir, Owner: os.Getuid()}.Lookup(rules.TargetSource{Kind: rules.SourceFile, Name: "web"})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	longAgo := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
}

func TestAFileHasATargetOnEachLine(t *testing.T) {
	_, lookup := written(t, "# the pool\n\nhttp://10.0.0.1:8080\n  unix:/run/app.sock,weight=5\r\nh2c://10.0.0.2:8080")
	answer, err := lookup(t.Context())
	want := []Place{{"http://10.0.0.1:8080", 1}, {"unix:/run/app.sock", 5}, {"h2c://10.0.0.2:8080", 1}}
	if err != nil || !slices.Equal(answer.Places, want) {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestALineThatCannotBeReadIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"http://10.0.0.1:8080\nhttp://10.0.0.2:8080/path\n": "line 2: url must have no user, path",
		"http://10.0.0.1:8080,weight=0":                     "line 1: weight must be",
		"http://10.0.0.1:8080,weight=many":                  "line 1: weight must be",
		"dns+http://app.internal:8080":                      "line 1: url must be",
		"file:other":                                        "line 1: url must be",
		"unix:/run/cutover/admin.sock":                      "a socket of Cutover's own",
		"# nothing\n":                                       "it holds no target",
		"":                                                  "it holds no target",
		strings.Repeat("http://10.0.0.1:8080\n", mostPlaces+1): "at most 1000 targets",
		strings.Repeat("#", mostFile+1):                        "more than 1048576 bytes",
	} {
		_, lookup := written(t, text)
		answer, err := lookup(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || answer.Again != filePause {
			t.Errorf("%.40q: %v, again after %s", text, err, answer.Again)
		}
	}
}

func TestAFileThatOthersMayWriteIsRefused(t *testing.T) {
	path, lookup := written(t, "http://10.0.0.1:8080\n")
	for mode, want := range map[os.FileMode]string{0o646: "can be written by others", 0o664: "can be written by others"} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := lookup(t.Context()); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := lookup(t.Context()); err != nil {
		t.Errorf("mended: %v", err)
	}
	theirs := Files{Dir: filepath.Dir(path), Owner: os.Getuid() + 1}.Lookup(rules.TargetSource{Name: "web"})
	if _, err := theirs(t.Context()); err == nil || !strings.Contains(err.Error(), "chown root "+path) {
		t.Errorf("of another user: %v", err)
	}
	folder := Files{Dir: filepath.Dir(filepath.Dir(path)), Owner: os.Getuid()}.Lookup(rules.TargetSource{Name: filepath.Base(filepath.Dir(path))})
	if _, err := folder(t.Context()); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a folder: %v", err)
	}
}

func TestAFileIsReadAgainWhenItIsWrittenOrReplaced(t *testing.T) {
	path, lookup := written(t, "http://10.0.0.1:8080\n")
	first := func() string {
		answer, err := lookup(t.Context())
		if err != nil {
			return err.Error()
		}
		return answer.Places[0].URL
	}
	if got := first(); got != "http://10.0.0.1:8080" {
		t.Fatal(got)
	}
	write(t, path, "http://10.0.0.2:8080\n")
	if got := first(); got != "http://10.0.0.2:8080" {
		t.Errorf("written: %s", got)
	}
	write(t, path+".new", "http://10.0.0.3:8080\n")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	if got := first(); got != "http://10.0.0.3:8080" {
		t.Errorf("replaced: %s", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := first(); !strings.Contains(got, "no such file") {
		t.Errorf("removed: %s", got)
	}
	write(t, path, "http://10.0.0.4:8080\n")
	if got := first(); got != "http://10.0.0.4:8080" {
		t.Errorf("there again: %s", got)
	}
}

func TestAFileThatIsBeingWrittenIsReadOnceItRests(t *testing.T) {
	path, lookup := written(t, "http://10.0.0.1:8080\nhttp://10.0.0.2:8080\n")
	if _, err := lookup(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, path, "http://10.0.0.1:8080\n")
	looks := 0
	for {
		now := time.Now() // it never rests
		if err := os.Chtimes(path, now, now); err != nil {
			t.Fatal(err)
		}
		answer, err := lookup(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if looks++; len(answer.Places) == 1 {
			break
		}
		if answer.Again > fileSettles || looks > mostLooks {
			t.Fatalf("after %d looks: %+v", looks, answer)
		}
	}
	if looks == 1 && time.Since(started(t, path)) < fileSettles {
		t.Error("it is read at once")
	}
}

// started is when a file was changed last.
func started(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.ModTime()
}
