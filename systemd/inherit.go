package systemd

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"
)

// Names of the sockets that Cutover serves, as FileDescriptorName= in their units says them.
const (
	HTTP  = "http"  // clear text, for redirects, ACME and hosts without https
	HTTPS = "https" // TLS
	Admin = "admin" // the admin API over TCP; optional
)

// Sockets are the listeners that systemd handed over, by name. A name may have several (IPv4 and IPv6), in the order
// of their unit. The receiver owns and closes them; closing them does not close systemd's own copies.
type Sockets map[string][]net.Listener

// InheritOptions change how Inherit reports; the zero value is good.
type InheritOptions struct {
	Log *slog.Logger // of sockets that are left alone, and of settings that will hurt later; nil discards
}

// Inherit takes over the listening sockets that systemd, or systemd-socket-activate, opened for this process
// (sd_listen_fds(3)). It can be called once: the LISTEN_… variables are removed from the environment, so that no child
// takes the descriptors for its own.
//
// Anything but a complete and consistent set is an error that names the line of the unit to change. A name that
// Cutover does not know is logged and its descriptor left open, so that an older release can run under newer units.
// At least one socket named http or https must be there.
func Inherit(o InheritOptions) (Sockets, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return inherit(environment{
		getenv: os.Getenv,
		pid:    os.Getpid(),
		files:  func() []*os.File { return activation.Files(true) },
	}, log)
}

// environment is what Inherit needs of the operating system.
type environment struct {
	getenv func(string) string
	pid    int
	files  func() []*os.File // the descriptors announced, from 3 on, close-on-exec set; removes the variables
}

func inherit(env environment, log *slog.Logger) (_ Sockets, err error) {
	handed, err := announced(env)
	if err != nil {
		return nil, err
	}
	files := env.files()
	if len(files) != handed.count {
		return nil, fmt.Errorf("LISTEN_FDS announces %d sockets, %d could be taken over", handed.count, len(files))
	}
	sockets := Sockets{}
	defer func() {
		if err != nil {
			_ = sockets.close()
		}
	}()
	strangers, err := sockets.adopt(files, handed, log)
	if err != nil {
		return nil, err
	}
	if len(sockets[HTTP])+len(sockets[HTTPS]) == 0 {
		return nil, noneToServe(strangers)
	}
	return sockets, nil
}

// adopt turns files into listeners; it closes or gives away every file. It returns the names that it did not know.
func (s Sockets) adopt(files []*os.File, handed announcement, log *slog.Logger) (strangers []string, err error) {
	var problems []error
	for i, file := range files {
		name := handed.names[i]
		if !slices.Contains([]string{HTTP, HTTPS, Admin}, name) {
			strangers = append(strangers, name)
			problems = append(problems, leaveAlone(file, name, log))
			continue
		}
		listener, err := listen(file, name, handed.supervised, log)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		s[name] = append(s[name], listener)
	}
	return strangers, errors.Join(problems...)
}

func (s Sockets) close() error {
	var problems []error
	for _, listeners := range s {
		for _, listener := range listeners {
			problems = append(problems, listener.Close())
		}
	}
	return errors.Join(problems...)
}

// Describe returns a line for each socket, such as "http tcp 0.0.0.0:80", sorted by name.
func (s Sockets) Describe() []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		for _, listener := range s[name] {
			address := listener.Addr()
			lines = append(lines, fmt.Sprintf("%s %s %s", name, address.Network(), address))
		}
	}
	return lines
}
