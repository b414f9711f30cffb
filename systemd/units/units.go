// Package units has the systemd units that Cutover runs under, and installs them.
package units

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed *.socket *.service *.sysusers
var files embed.FS

// standardBinary is where the units look for the program unless told otherwise.
const standardBinary = "/opt/cutover/cutover"

// plainPath keeps out what systemd would read as a specifier, a variable, a quote or the border of a word.
var plainPath = regexp.MustCompile(`^/[A-Za-z0-9._+/-]+$`)

// Options changes the units.
type Options struct {
	Binary string // absolute path of the program, a symlink as a rule; empty means /opt/cutover/cutover
	Admin  bool   // lets the service have the optional admin socket, which is started with it then, by cutover.service.d/admin.conf
}

// File is a unit.
type File struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Files returns the units, sorted by name. The one that ends in .sysusers is for systemd-sysusers: it makes the user.
func Files(o Options) ([]File, error) {
	if o.Binary == "" {
		o.Binary = standardBinary
	}
	if !plainPath.MatchString(o.Binary) {
		return nil, fmt.Errorf("the program's path %q cannot stand in a unit: it must be absolute, of letters, digits and . _ + - /", o.Binary)
	}
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	list := make([]File, 0, len(entries))
	for _, entry := range entries {
		text, err := files.ReadFile(entry.Name())
		if err != nil {
			return nil, err
		}
		list = append(list, File{entry.Name(), strings.ReplaceAll(string(text), standardBinary, o.Binary)})
	}
	if o.Admin {
		list = append(list, File{"cutover.service.d/admin.conf", "[Service]\nSockets=cutover-admin.socket\n"})
	}
	return list, nil
}

// Install writes the units to dir, each at once or not at all, and returns the names of those that were new or differed.
// It starts, stops and enables nothing, least of all a socket; 'systemctl daemon-reload' makes the units known. What an
// earlier Install wrote for the admin socket stays.
func Install(dir string, o Options) (changed []string, err error) {
	list, err := Files(o)
	if err != nil {
		return nil, err
	}
	for _, file := range list {
		path := filepath.Join(dir, file.Name)
		old, err := os.ReadFile(path)
		if err == nil && bytes.Equal(old, []byte(file.Text)) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return changed, err
		}
		if err := Replace(path, file.Text); err != nil {
			return changed, err
		}
		changed = append(changed, file.Name)
	}
	return changed, nil
}

// Replace writes a file under another name and renames it, so that systemd never reads half of one.
func Replace(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".cutover-*")
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
