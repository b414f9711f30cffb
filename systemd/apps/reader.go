package apps

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/BurntSushi/toml"
)

// Current is what NAME.current says: what the slots have, and which one serves. The commands write it; what an operator has
// changed in NAME.toml meanwhile is not in force before they have taken it up.
type Current struct {
	Slot     string `toml:"slot" json:"slot"`
	Protocol string `toml:"protocol" json:"protocol"`
	// Executables has the path for each slot that was ever used.
	Executables map[string]string `toml:"executables" json:"executables"`
	// Exec has for each of them what exec named first when the slot was made. Where it names another file now, the operator
	// wants that.
	Exec map[string]string `toml:"exec" json:"exec"`
}

// with is c when a slot runs an executable, and exec names a file first.
func (c Current) with(slot, executable, exec string) Current {
	executables, execs := map[string]string{}, map[string]string{}
	maps.Copy(executables, c.Executables)
	maps.Copy(execs, c.Exec)
	executables[slot], execs[slot] = executable, exec
	c.Executables, c.Exec = executables, execs
	return c
}

// executable is what a slot runs when it is started the next time.
func (c Current) executable(slot string, a App) string {
	if was, known := c.Exec[slot]; known && was != a.Exec[0] || c.Executables[slot] == "" {
		return a.Exec[0]
	}
	return c.Executables[slot]
}

// other is the slot that does not serve.
func (c Current) other() string {
	if c.Slot == "b" {
		return "a"
	}
	return "b"
}

// address is the URL of a slot's socket.
func (c Current) address(socket string) string {
	switch c.Protocol {
	case H2C, FCGI:
		return c.Protocol + "+unix:" + socket
	}
	return "unix:" + socket // who runs a CGI program speaks HTTP
}

func parseCurrent(text string) (c Current, err error) {
	if _, err := toml.Decode(text, &c); err != nil {
		return c, err
	}
	if c.Slot != "a" && c.Slot != "b" {
		return c, fmt.Errorf("slot must be a or b, not %q", c.Slot)
	}
	return c, checkProtocol(c.Protocol)
}

// Reader tells where programs listen. It reads a file anew only when that has changed, so that it may be asked at any rate. Any
// number of goroutines may use it at once. Use NewReader.
type Reader struct {
	places Places
	owner  uint32 // of the files: root

	mu    sync.Mutex
	known map[string]reading
}

// reading is what a program's file said when it was read.
type reading struct {
	folder, file stamp
	current      Current
	err          error
}

// stamp changes whenever a file does.
type stamp struct {
	device, inode uint64
	size          int64
	mode, owner   uint32
	changed       syscall.Timespec
}

// NewReader returns a reader of programs that root has said something of.
func NewReader(p Places) *Reader { return &Reader{places: p, known: map[string]reading{}} }

// Addresses returns where a program listens, as the URL of a target: there is one. It is where the next request should go.
func (r *Reader) Addresses(name string) ([]string, error) { return r.addresses(name, false) }

// CGIAddresses is Addresses for a program that is started for each request.
func (r *Reader) CGIAddresses(name string) ([]string, error) { return r.addresses(name, true) }

func (r *Reader) addresses(name string, cgi bool) ([]string, error) {
	c, err := r.read(name)
	switch {
	case err != nil:
		return nil, err
	case cgi != (c.Protocol == CGI):
		return nil, fmt.Errorf("%s speaks %s: its target is %s", name, c.Protocol, target(c.Protocol, name))
	}
	return []string{c.address(r.places.Socket(name, c.Slot))}, nil
}

// mostKnown bounds what is remembered of names that rows have had.
const mostKnown = 1000

func (r *Reader) read(name string) (Current, error) {
	if err := CheckName(name); err != nil {
		return Current{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := reading{folder: stampOf(r.places.Apps), file: stampOf(r.places.currentFile(name))}
	last, known := r.known[name]
	if known && last.folder == now.folder && last.file == now.file {
		return last.current, last.err
	}
	now.current, now.err = r.load(name)
	if len(r.known) >= mostKnown {
		clear(r.known)
	}
	r.known[name] = now
	return now.current, now.err
}

// stampOf returns the zero stamp for what is not there.
func stampOf(path string) stamp {
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		return stamp{}
	}
	return stamp{s.Dev, s.Ino, s.Size, s.Mode, s.Uid, s.Ctim}
}

func (r *Reader) load(name string) (c Current, err error) {
	path := r.places.currentFile(name)
	text, err := r.text(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, fmt.Errorf("there is no program %s: %s is missing; see: cutover app add --help", name, path)
	}
	if err != nil {
		return c, err
	}
	if c, err = parseCurrent(text); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// text reads a file that nobody but root can have written.
func (r *Reader) text(path string) (string, error) {
	if err := r.checkOwner(filepath.Dir(path), os.Stat); err != nil {
		return "", err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0) // whatever it is, it does not block
	if errors.Is(err, syscall.ELOOP) {
		return "", fmt.Errorf("%s is a symbolic link, and must be a plain file", path)
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // it was only read
	if err := r.checkOwner(path, func(string) (os.FileInfo, error) { return file.Stat() }); err != nil {
		return "", err
	}
	const most = 1 << 20
	text, err := io.ReadAll(io.LimitReader(file, most))
	return string(text), err
}

func (r *Reader) checkOwner(path string, stat func(string) (os.FileInfo, error)) error {
	info, err := stat(path)
	if err != nil {
		return err
	}
	of, ok := info.Sys().(*syscall.Stat_t)
	if !ok || of.Uid != r.owner || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s could have been written by others than root; look at it, then run: chown root:root %s; chmod go-w %s", path, path, path)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no plain file", path)
	}
	return nil
}
