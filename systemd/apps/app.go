// Package apps has the programs that systemd runs for Cutover: what root has said of each, in a file of its own, the units that
// are made of that, and the change from one executable to the next.
//
// A program has two slots, a and b, each with a socket and a service of its own. One of them serves; the other is for the next
// executable, or keeps the one before.
package apps

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// What a program speaks on its socket.
const (
	HTTP = "http" // HTTP/1.1
	H2C  = "h2c"  // HTTP/2 in clear text
	FCGI = "fcgi" // FastCGI
	CGI  = "cgi"  // nothing: it is started for each request
)

// App is what root has said of a program, in NAME.toml.
type App struct {
	Exec      []string          `toml:"exec" json:"exec"` // the executable's path, and its arguments
	User      string            `toml:"user" json:"user"`
	Protocol  string            `toml:"protocol" json:"protocol"`
	Stdin     bool              `toml:"stdin,omitempty" json:"stdin"` // the socket is descriptor 0, and not announced by LISTEN_FDS
	Health    string            `toml:"health,omitempty" json:"health"`
	Workdir   string            `toml:"workdir,omitempty" json:"workdir"`
	Env       map[string]string `toml:"env,omitempty" json:"env,omitempty"`
	EnvFile   string            `toml:"env_file,omitempty" json:"env_file"` // read by systemd, so that it may be root's alone
	Backlog   int               `toml:"backlog,omitempty" json:"backlog"`   // connections that wait at most; 0 for 128
	AllowRoot bool              `toml:"allow_root,omitempty" json:"allow_root"`
	CGI       CGILimits         `toml:"cgi,omitempty" json:"cgi"`
}

// CGILimits bounds a program that is started for each request. Zeroes stand for 16, 100 and a minute.
type CGILimits struct {
	Processes int    `toml:"processes,omitempty" json:"processes"`   // at once
	Waiting   int    `toml:"waiting,omitempty" json:"waiting"`       // requests beyond those; others get 503
	TimeLimit string `toml:"time_limit,omitempty" json:"time_limit"` // of one, such as 30s
}

var (
	name     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}$`)
	userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,31}$`)
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// plainPath keeps out what systemd would read as a specifier, a variable, a quote or the border of a word.
	plainPath = regexp.MustCompile(`^/[A-Za-z0-9._+/@:-]+$`)
	webPath   = regexp.MustCompile(`^/[!-~]*$`)
)

// CheckName returns why a text cannot be the name of a program.
func CheckName(text string) error {
	if !name.MatchString(text) {
		return fmt.Errorf("%q cannot be the name of a program: letters, digits, . _ and -, at most 63, and a letter, a digit or _ first", text)
	}
	return nil
}

// Parse reads NAME.toml. A key that nobody knows is an error.
func Parse(text string) (App, error) {
	var a App
	meta, err := toml.Decode(text, &a)
	if err != nil {
		return a, err
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return a, fmt.Errorf("there is no key %s", unknown[0])
	}
	return a, a.Validate()
}

// Validate returns the first thing that makes no sense.
func (a App) Validate() error {
	for _, check := range []func() error{a.checkExec, a.checkUser, func() error { return checkProtocol(a.Protocol) }, a.checkListening, a.checkEnvironment, a.checkCGI} {
		if err := check(); err != nil {
			return err
		}
	}
	switch {
	case a.Workdir != "" && !plainPath.MatchString(a.Workdir):
		return fmt.Errorf("workdir %q must be an absolute path of letters, digits and . _ + - @ : /", a.Workdir)
	case a.Backlog < 0 || a.Backlog > 4096:
		return fmt.Errorf("backlog must be from 1 to 4096, not %d", a.Backlog)
	}
	return nil
}

func (a App) checkExec() error {
	if len(a.Exec) == 0 {
		return errors.New("exec is missing: the executable's path, and its arguments")
	}
	if err := checkExecutable(a.Exec[0]); err != nil {
		return err
	}
	for _, word := range a.Exec {
		if err := checkText(word); err != nil {
			return fmt.Errorf("exec: %q %w", word, err)
		}
	}
	return nil
}

func checkExecutable(path string) error {
	if !plainPath.MatchString(path) {
		return fmt.Errorf("exec: the program %q must be an absolute path of letters, digits and . _ + - @ : /", path)
	}
	return nil
}

// checkText refuses what cannot stand in a line of a unit, however it is quoted.
func checkText(text string) error {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("must be UTF-8 without line breaks and other control characters")
	}
	return nil
}

func (a App) checkUser() error {
	switch {
	case !userName.MatchString(a.User):
		return fmt.Errorf("user %q is no name of a user", a.User)
	case a.User == "cutover":
		return errOurs
	case a.User == "root" && !a.AllowRoot:
		return errRoot
	}
	return nil
}

var (
	errOurs = errors.New("user must not be cutover: the program could read Cutover's keys and change its rules")
	errRoot = errors.New("user is root: a program that visitors reach should have a user of its own; allow_root = true (--allow-root) allows it")
)

// checkAccount is checkUser for users that have another name: uid is that of the program's user, ours that of Cutover's, or empty.
func (a App) checkAccount(uid, ours string) error {
	switch {
	case uid == ours:
		return fmt.Errorf("%s is another name of cutover, user %s: %w", a.User, uid, errOurs)
	case uid == "0" && !a.AllowRoot:
		return fmt.Errorf("%s is another name of root, user 0: %w", a.User, errRoot)
	}
	return nil
}

func checkProtocol(text string) error {
	if !slices.Contains([]string{HTTP, H2C, FCGI, CGI}, text) {
		return fmt.Errorf("protocol must be http, h2c, fcgi or cgi, not %q", text)
	}
	return nil
}

func (a App) checkListening() error {
	switch {
	case a.Protocol == CGI && a.Stdin:
		return errors.New("stdin is for programs that get a socket: a cgi program gets the body of a request there")
	case a.Health != "" && !webPath.MatchString(a.Health):
		return fmt.Errorf("health must be a path such as /up, not %q", a.Health)
	case a.Health != "" && a.Protocol == FCGI:
		return errors.New("health is for http, h2c and cgi: a fcgi program is good once it accepts connections")
	}
	return nil
}

func (a App) checkEnvironment() error {
	for _, key := range slices.Sorted(maps.Keys(a.Env)) {
		if !variable.MatchString(key) {
			return fmt.Errorf("env: %q is no name of a variable", key)
		}
		if err := checkText(a.Env[key]); err != nil {
			return fmt.Errorf("env: the value of %s %w", key, err)
		}
	}
	if a.EnvFile != "" && !plainPath.MatchString(a.EnvFile) {
		return fmt.Errorf("env_file %q must be an absolute path of letters, digits and . _ + - @ : /", a.EnvFile)
	}
	return nil
}

func (a App) checkCGI() error {
	if a.Protocol != CGI && a.CGI != (CGILimits{}) {
		return errors.New("cgi is for programs with protocol = \"cgi\"")
	}
	if a.CGI.Processes < 0 || a.CGI.Waiting < 0 {
		return errors.New("cgi: processes and waiting must not be negative")
	}
	if a.CGI.TimeLimit == "" {
		return nil
	}
	if limit, err := time.ParseDuration(a.CGI.TimeLimit); err != nil || limit <= 0 {
		return fmt.Errorf("cgi: time_limit must be a time such as 30s, not %q", a.CGI.TimeLimit)
	}
	return nil
}

// target is the URL that targets of upstreams have for a program.
func target(protocol, name string) string {
	if protocol == CGI {
		return "cgi:" + name
	}
	return "app:" + name
}

// text is the file that Parse reads.
func (a App) text() (string, error) {
	var out strings.Builder
	err := toml.NewEncoder(&out).Encode(a)
	return out.String(), err
}
