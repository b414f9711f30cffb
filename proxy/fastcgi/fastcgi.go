// Package fastcgi forwards HTTP requests to applications that speak FastCGI 1.0 in the responder role, such as php-fpm.
//
// A request's body streams to the application while the answer streams back. Its length must be known: applications read
// CONTENT_LENGTH bytes, and php-fpm takes a body without one for empty. A worker of php-fpm does nothing else while a body comes, so
// bodies from afar are best read by a Spool before. The connection is made first: where that fails, nothing of the body was read,
// and the request may go to another target.
//
// What a visitor says never decides alone which file runs: see Config.Runs. Header fields reach the application only under names
// that no other field can have (letters, digits and hyphens), and "Proxy" never does.
//
// A Location without a Status is answered with 302, also where RFC 3875 §6.2.2 would have the server run the path that it names:
// that would go past whatever decided that this visitor may have this path.
package fastcgi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"
	"time"
)

// Config says where an application is and what it is told. Network and Address are needed.
type Config struct {
	Network, Address string // "tcp" and host:port, or "unix" and a path

	// Root is the folder of the scripts as the application sees it. Empty means that the application has no scripts: it gets
	// the whole path as PATH_INFO.
	Root  string
	Index string // script of a folder; "" means index.php
	Split string // end of a script's name, in exactly this spelling; "" means .php
	// Front is the script, "/index.php" say, for all paths that name none. Empty means that those are answered with 404.
	Front string
	// Runs reports whether a visitor may run a script. It gets a path below Root that begins with a slash and has no empty, "."
	// or ".." segment. Nil means only Front, and Index in Root itself. It must be sure that the script is a file: of
	// "/uploads/cat.jpg/x.php" php-fpm would run cat.jpg. See LocalFiles.
	Runs func(script string) bool
	// Unseen reports whether nobody here can see the scripts, as in a container; it is asked where Runs says no. Then a path
	// runs what it names itself: "/admin/x.php", with nothing before it that looks like a file, and "/admin/" its Index if there
	// is no Front. The application must refuse to run anything but scripts by itself, as php-fpm does unless its
	// security.limit_extensions was changed. Nil means that they can be seen.
	Unseen func() bool

	// Params are handed to the application with each request, in place of those of the same names that it would get otherwise.
	// Names that begin with HTTP_ are the visitor's.
	Params map[string]string
	// Origin says where a request came from; nil means its RemoteAddr and TLS.
	Origin func(*http.Request) Origin
	// Dial connects to the application; nil means to Address, as quickly as DialTimeout says.
	Dial func(context.Context) (net.Conn, error)
	// Stderr gets what the application writes to its standard error, line by line, as bytes that nobody has checked; no more
	// than 64 KiB of a request. Calls for one request come one after the other.
	Stderr func(ctx context.Context, line string)

	// MaxIdle is how many connections are kept for further requests; 0 means none. A kept connection occupies a worker of
	// php-fpm, also against others that use the same pool of workers: stay well below its pm.max_children. A script that works
	// on after fastcgi_finish_request lets the next request on its connection wait, whichever workers are free.
	MaxIdle     int
	IdleTimeout time.Duration // after which a kept connection is closed; 0 means 10 s
	DialTimeout time.Duration // 0 means 3 s
	// ResponseTimeout bounds how long the application may take to its first header once it has the request, or has left a part
	// of it unread for as long. 0 means no bound.
	ResponseTimeout time.Duration

	MaxHeaderBytes int64 // of an answer; 0 means 256 KiB
}

// Origin is where a request came from.
type Origin struct {
	Remote netip.AddrPort // the visitor; a port of 0 is not told
	HTTPS  bool
}

// isNumber reports whether text is a port: digits, from 1 to 65535.
func isNumber(text string) bool {
	port := 0
	for i := range len(text) {
		if port = port*10 + int(text[i]-'0'); text[i] < '0' || text[i] > '9' || port > 65535 {
			return false
		}
	}
	return port > 0
}

// Transport is an http.RoundTripper to one application; the host of a request's URL does not matter to it. Any number of
// goroutines may use it at once. A visitor's mistakes are answered (see IsOwn), not reported as errors: 400 for a path with ".." or a NUL,
// 404 for one that names no script, 431 for too much, as are redirects of a folder's name to the folder. A request's
// body is closed when nothing more of it is needed, which may be after its answer has ended.
type Transport struct {
	config Config
	fixed  []byte // parameters that are always the same, encoded
	named  map[string]bool
	pool   pool
	spare  sync.Pool // of *memory
}

// New returns a transport, or what is wrong with its configuration. It connects to nothing yet.
func New(c Config) (*Transport, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Root != "/" {
		c.Root = strings.TrimRight(c.Root, "/")
	}
	c.Index = orDefault(c.Index, "index.php")
	c.Split = orDefault(c.Split, ".php")
	c.IdleTimeout = orDefault(c.IdleTimeout, 10*time.Second)
	c.DialTimeout = orDefault(c.DialTimeout, 3*time.Second)
	c.MaxHeaderBytes = orDefault(c.MaxHeaderBytes, 256<<10)
	if c.Origin == nil {
		c.Origin = originOf
	}
	if c.Runs == nil {
		index, front := "/"+c.Index, c.Front
		c.Runs = func(script string) bool { return script == index || script == front }
	}
	c.Dial = dialer(&c)
	if c.Unseen == nil {
		c.Unseen = func() bool { return false }
	}
	t := &Transport{config: c, pool: pool{most: c.MaxIdle, timeout: c.IdleTimeout}}
	t.named, t.fixed = fixedParams(&t.config)
	if len(t.fixed) > maxContent {
		return nil, errors.New("the parameters are too long together")
	}
	return t, nil
}

func orDefault[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

func (c *Config) validate() error {
	switch {
	case c.Network != "tcp" && c.Network != "unix", c.Address == "":
		return fmt.Errorf("%s %q is no address of an application", c.Network, c.Address)
	case c.Root != "" && !path.IsAbs(c.Root):
		return fmt.Errorf("the root %q is no absolute path", c.Root)
	case strings.Contains(c.Index, "/"):
		return fmt.Errorf("the index %q is no name of a file", c.Index)
	case strings.Contains(c.Split, "/"):
		return fmt.Errorf("the split %q is no end of a name", c.Split)
	case c.Front != "" && (path.Clean(c.Front) != c.Front || !path.IsAbs(c.Front) || c.Front == "/"):
		return fmt.Errorf("the front script %q is no path below the root", c.Front)
	case c.MaxIdle < 0:
		return errors.New("the number of connections to keep is negative")
	}
	return validateParams(c.Params)
}

func validateParams(params map[string]string) error {
	for name, value := range params {
		switch {
		case name == "" || strings.ContainsAny(name, "\x00="):
			return fmt.Errorf("the parameter %q has no name that an environment can hold", name)
		case strings.HasPrefix(name, "HTTP_"):
			return fmt.Errorf("the parameter %s is the visitor's header field", name)
		case strings.ContainsRune(value, 0) || len(name)+len(value) > 32<<10:
			return fmt.Errorf("the value of the parameter %s is too long, or has a NUL", name)
		}
	}
	return nil
}

func originOf(r *http.Request) Origin {
	remote, _ := netip.ParseAddrPort(r.RemoteAddr) // none is none
	return Origin{Remote: remote, HTTPS: r.TLS != nil}
}

// CloseIdleConnections closes the connections that idle now, and those that become idle later unless a request comes before.
func (t *Transport) CloseIdleConnections() { t.pool.close() }

// RoundTrip sends a request, whose body must say its length, to the application. The answer's body must be read to its end or closed. Errors: ErrOverloaded; what
// reading the request's body met; what connecting met, httptrace's GetConn having been called and GotConn not; the context's; one
// with Timeout; or what broke the exchange off.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	length := bodyLength(r)
	if length == unknown {
		closeBody(r)
		return nil, errNoLength
	}
	where, refused := t.locate(r)
	if refused != nil {
		closeBody(r)
		return refused, nil
	}
	x := &exchange{t: t, r: r, where: where, length: length}
	response, err := x.run(false)
	if err != nil && x.stale && r.Context().Err() == nil {
		response, err = x.run(true) // the connection had died of old age
	}
	x.closeBody()
	if err != nil {
		return nil, fmt.Errorf("fastcgi: %w", err)
	}
	return response, nil
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // nobody needs it any more
	}
}
