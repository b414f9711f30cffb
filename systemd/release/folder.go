package release

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Folder is where releases live, /opt/cutover as a rule: releases/ has the files, the symlink cutover leads to the one in
// use, and the symlink previous to the one before.
type Folder struct{ Root string }

// Keep is how many releases Prune leaves.
const Keep = 10

var (
	// ErrBusy says that another deploy holds the lock.
	ErrBusy = errors.New("another deploy is under way")
	// ErrName says that a file is not named as releases are.
	ErrName = errors.New("is not named cutover-YYYYMMDDHHMMSS")
	// ErrTaken says that there is another release of the same name.
	ErrTaken = errors.New("is there already, and is another one; nothing was changed")
)

var releaseName = regexp.MustCompile(`^cutover-[0-9]{14}$`)

// Link is the symlink that the units run.
func (f Folder) Link() string { return filepath.Join(f.Root, "cutover") }

// PreviousLink is the symlink to the release before the one in use.
func (f Folder) PreviousLink() string { return filepath.Join(f.Root, "previous") }

// Releases is the folder of the files.
func (f Folder) Releases() string { return filepath.Join(f.Root, "releases") }

// Current returns the path of the release in use, "" if there is none.
func (f Folder) Current() (string, error) { return readLink(f.Link()) }

// Previous returns the path of the release before the one in use, "" if there is none.
func (f Folder) Previous() (string, error) { return readLink(f.PreviousLink()) }

func readLink(path string) (string, error) {
	target, err := os.Readlink(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return target, err
}

// Lock keeps every other deploy out until unlock is called or the process ends. It waits for nothing: where somebody has
// the lock, it returns ErrBusy.
func (f Folder) Lock() (unlock func(), err error) {
	if err := os.MkdirAll(f.Root, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(f.Root, ".deploy.lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrBusy
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// Put copies a file among the releases, whole or not at all, and returns its path there and whether it is new. A release
// never becomes another one: where one of that name is, with other content, the error is ErrTaken.
func (f Folder) Put(file string) (path string, added bool, err error) {
	name := filepath.Base(file)
	if !releaseName.MatchString(name) {
		return "", false, fmt.Errorf("%s %w", file, ErrName)
	}
	if err := os.MkdirAll(f.Releases(), 0o755); err != nil {
		return "", false, err
	}
	if err := f.sweep(); err != nil {
		return "", false, err
	}
	path = filepath.Join(f.Releases(), name)
	part := filepath.Join(f.Releases(), "."+name+".new")
	if err := CopyFile(file, part); err != nil {
		return "", false, errors.Join(fmt.Errorf("copy %s: %w", file, err), remove(part))
	}
	err = os.Link(part, path) // unlike a rename, it never replaces
	switch {
	case err == nil:
		added = true
	case errors.Is(err, fs.ErrExist):
		err = expectSame(file, path)
	}
	return path, added, errors.Join(err, remove(part), syncFolder(f.Releases()))
}

// sweep removes what a copy that was cut short has left.
func (f Folder) sweep() error {
	parts, err := filepath.Glob(filepath.Join(f.Releases(), ".cutover-*.new"))
	for _, part := range parts {
		err = errors.Join(err, remove(part))
	}
	return err
}

// CopyFile copies a program, which must not be there yet, and sees it written.
func CopyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(0o755), out.Sync(), out.Close()) // the umask may have taken some of the mode
}

func expectSame(file, path string) error {
	one, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	other, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(one, other) {
		return fmt.Errorf("%s %w", path, ErrTaken)
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// point makes a symlink lead to a file, in one step.
func point(link, file string) error {
	part := link + ".new"
	if err := remove(part); err != nil {
		return err
	}
	if err := os.Symlink(file, part); err != nil {
		return err
	}
	if err := os.Rename(part, link); err != nil {
		return errors.Join(err, remove(part))
	}
	return syncFolder(filepath.Dir(link))
}

// Find returns the path of a release by its name or its path; "" stands for the one before the one in use.
func (f Folder) Find(name string) (string, error) {
	if name == "" {
		return f.findPrevious()
	}
	path := filepath.Join(f.Releases(), filepath.Base(name))
	if !releaseName.MatchString(filepath.Base(name)) || (strings.Contains(name, "/") && name != path) {
		return "", fmt.Errorf("%s is no release in %s", name, f.Releases())
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("there is no release %s: %w", filepath.Base(name), err)
	}
	return path, nil
}

func (f Folder) findPrevious() (string, error) {
	path, err := f.Previous()
	if err != nil {
		return "", err
	}
	if path == "" {
		return "", errors.New("there is no release before this one")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the release before this one is gone: %w", err)
	}
	return path, nil
}

// Prune removes all but the newest releases, never the one in use or the one before it, and returns what it removed.
func (f Folder) Prune() (removed []string, err error) {
	entries, err := os.ReadDir(f.Releases())
	if err != nil {
		return nil, err
	}
	current, _ := f.Current() // what cannot be read leads nowhere, and spares nothing
	previous, _ := f.Previous()
	spared := []string{filepath.Base(current), filepath.Base(previous)}
	kept := 0
	for _, entry := range slices.Backward(entries) { // by name, which is by time
		name := entry.Name()
		if !releaseName.MatchString(name) {
			continue
		}
		if kept++; kept <= Keep || slices.Contains(spared, name) {
			continue
		}
		if err := remove(filepath.Join(f.Releases(), name)); err != nil {
			return removed, err
		}
		removed = append(removed, name)
	}
	return removed, nil
}
