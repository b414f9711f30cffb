package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cutover/rules"
)

const (
	filePause   = time.Second            // from one look at a file to the next
	fileSettles = 200 * time.Millisecond // since its last change: an editor may write it in pieces
	mostLooks   = 10                     // at a file that does not settle, until it is taken as it is
	mostFile    = 1 << 20                // bytes
	mostPlaces  = 1000                   // of a source
)

// Files reads files of targets: a line is the URL of a place, or URL,weight=N; empty lines and those that begin with # do not
// count.
type Files struct {
	Dir   string
	Owner int // who must own them; 0 is root
}

// Lookup is a Resolver. A file that has a line that cannot be read, or none at all, is refused as a whole.
func (f Files) Lookup(source rules.TargetSource) Lookup {
	file := &watchedFile{path: filepath.Join(f.Dir, source.Name), owner: f.Owner}
	return func(context.Context) (Answer, error) { return file.look() }
}

// watchedFile is a file and what it said last.
type watchedFile struct {
	path   string
	owner  int
	read   fs.FileInfo // as it was when it was read
	places []Place
	err    error
	looks  int // in a row that found it in the course of being written
}

func (w *watchedFile) look() (Answer, error) {
	again := Answer{Again: filePause}
	file, err := os.OpenFile(w.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not make it wait
	if err != nil {
		w.read = nil
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("the daemon's user may not read it, sudo chmod a+r %s: %w", w.path, err)
		}
		return again, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return again, err
	}
	if w.read != nil && sameFile(w.read, info) {
		again.Places = w.places
		return again, w.err
	}
	if w.looks++; w.looks < mostLooks && time.Since(info.ModTime()).Abs() < fileSettles && w.read != nil {
		return Answer{w.places, fileSettles}, w.err
	}
	w.looks, w.read = 0, info
	places, err := w.parse(file, info)
	if w.err = err; err == nil {
		w.places = places
	}
	again.Places = places
	return again, err
}

// sameFile compares what changes when a file is written, replaced, or given to somebody.
func sameFile(a, b fs.FileInfo) bool {
	before, ok := a.Sys().(*syscall.Stat_t)
	after, ok2 := b.Sys().(*syscall.Stat_t)
	return ok && ok2 && before.Ino == after.Ino && before.Ctim == after.Ctim && before.Size == after.Size
}

func (w *watchedFile) parse(file *os.File, info fs.FileInfo) ([]Place, error) {
	if err := mayBeTrusted(w.path, info, w.owner); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, mostFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > mostFile {
		return nil, fmt.Errorf("%s: it has more than %d bytes", w.path, mostFile)
	}
	places, err := parseFile(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w.path, err)
	}
	return places, nil
}

// mayBeTrusted returns why somebody else than the owner may have written a file.
func mayBeTrusted(path string, info fs.FileInfo, owner int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.Mode().IsRegular():
		return fmt.Errorf("%s is no file", path)
	case int(stat.Uid) != owner:
		return fmt.Errorf("%s belongs to user %d and is not read: sudo chown root %[1]s", path, stat.Uid)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by others and is not read: sudo chmod go-w %[1]s", path)
	}
	return nil
}

var errNoLine = errors.New("it holds no target: to take targets out of service, set the row's state to drain or maint")

func parseFile(text string) (places []Place, err error) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		place, err := parseLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if places = append(places, place); len(places) > mostPlaces {
			return nil, fmt.Errorf("line %d: a file has at most %d targets", number, mostPlaces)
		}
	}
	if len(places) == 0 {
		return nil, errNoLine
	}
	return places, nil
}

func parseLine(line string) (Place, error) {
	place := Place{URL: line, Weight: 1}
	if url, weight, ok := strings.Cut(line, ",weight="); ok {
		n, err := strconv.Atoi(weight)
		if err != nil || n < 1 || n > 1000 {
			return place, errors.New("weight must be a whole number from 1 to 1000")
		}
		place = Place{URL: url, Weight: n}
	}
	_, err := rules.ParseAddress(place.URL)
	return place, err
}
