package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"cutover/proxy/fastcgi"
	"cutover/rules"
)

// Origin is where a request came from, as far as those before us are believed. Applications behind FastCGI are told.
type Origin struct {
	Client    netip.AddrPort // a port of 0 is not known
	HTTPS     bool
	RequestID string // for the log
}

const (
	complaintsPerSecond, complaintsAtOnce = 20, 200 // lines of an application's standard error in the log
	complainEvery                         = time.Minute
)

type originKey struct{}

// WithOrigin returns a context for a request from somewhere.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

func originOf(ctx context.Context) Origin {
	o, _ := ctx.Value(originKey{}).(Origin)
	return o
}

// newFastCGI returns what sends requests to a FastCGI application. The rows have been validated: settings that make no sense all
// the same are an error for each request.
func (c *connections) newFastCGI() fcgiTransport {
	settings := c.manner.fastCGI
	config := fastcgi.Config{
		Network: c.address.Network, Address: c.address.Dial, Dial: c.dial,
		Root: settings.Root, Index: settings.Index, Split: settings.Split, Front: settings.Front,
		Origin: func(r *http.Request) fastcgi.Origin {
			o := originOf(r.Context())
			return fastcgi.Origin{Remote: o.Client, HTTPS: o.HTTPS}
		},
		Stderr:      newComplaints(c.options, c.address).write,
		MaxIdle:     settings.Keep,
		DialTimeout: c.connectTimeout(), ResponseTimeout: c.manner.answersIn,
	}
	if c.announces() {
		config.MaxIdle = 0 // a connection is its visitor's alone
	}
	config.Runs, config.Unseen = c.scripts(settings.Root)
	var err error
	if config.Params, err = settings.ParseParams(); err != nil {
		return unusable{err}
	}
	transport, err := fastcgi.New(config)
	if err != nil {
		return unusable{err}
	}
	return transport
}

// fcgiTransport is a fastcgi.Transport.
type fcgiTransport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// unusable is a target whose settings make no sense.
type unusable struct{ err error }

// RoundTrip says why.
func (u unusable) RoundTrip(*http.Request) (*http.Response, error) { return nil, u.err }

// CloseIdleConnections has none to close.
func (unusable) CloseIdleConnections() {}

// scripts returns how it is found out which paths are scripts: by a look at the root, where it is on this machine; otherwise by
// what they are called. An application on this machine may be in a container, whose files nobody else sees.
func (c *connections) scripts(root string) (runs func(string) bool, unseen func() bool) {
	if c.address.Network != "unix" && !isLoopback(c.address.Host) {
		return func(string) bool { return false }, func() bool { return true }
	}
	warned := rate.Sometimes{First: 1, Interval: complainEvery}
	denied := func(err error) {
		warned.Do(func() {
			c.options.log().Warn("a script may not be looked at, and is taken for none: let Cutover's user read the folders below fcgi_root",
				slog.String("target", targetName(c.address)), slog.String("error", err.Error()))
		})
	}
	return fastcgi.LocalFiles(root, denied), func() bool { return !fastcgi.IsFolder(root) }
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

func targetName(a rules.Address) string {
	if a.Network == "unix" {
		return "fcgi+unix:" + a.Dial
	}
	return "fcgi://" + a.Dial
}

// complaints are what an application writes to its standard error. Some write a line at each request: more than a few a second
// are counted alone.
type complaints struct {
	log     *slog.Logger
	target  string
	limiter *rate.Limiter
	lost    atomic.Int64
}

func newComplaints(o Options, a rules.Address) *complaints {
	return &complaints{log: o.log(), target: targetName(a), limiter: rate.NewLimiter(complaintsPerSecond, complaintsAtOnce)}
}

func (c *complaints) write(ctx context.Context, line string) {
	if !c.limiter.Allow() {
		c.lost.Add(1)
		return
	}
	attrs := []slog.Attr{slog.String("line", line), slog.String("target", c.target), slog.String("request_id", originOf(ctx).RequestID)}
	if lost := c.lost.Swap(0); lost > 0 {
		attrs = append(attrs, slog.Int64("lines_left_out_before", lost))
	}
	c.log.LogAttrs(ctx, slog.LevelWarn, "the application says", attrs...)
}

// bodyFolder is where long bodies wait. The system's folder for temporary files may be in memory.
func bodyFolder() string {
	const onDisk = "/var/tmp"
	if os.Getenv("TMPDIR") != "" || !fastcgi.IsFolder(onDisk) {
		return os.TempDir()
	}
	return onDisk
}

// storedBody is a request's body that was read before a target was picked. It is forgotten once a target has answered, which ends
// the repeats, and all of it was handed out: the visitor may take long to read the answer.
type storedBody struct {
	io.ReadCloser
	kept *fastcgi.Kept

	left     atomic.Int64 // not handed out yet
	answered atomic.Bool
}

func newStoredBody(kept *fastcgi.Kept) *storedBody {
	s := &storedBody{ReadCloser: kept.Open(), kept: kept}
	s.left.Store(kept.Length)
	return s
}

func (s *storedBody) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if s.left.Add(-int64(n)) <= 0 && s.answered.Load() {
		s.kept.Close()
	}
	return n, err
}

// hasAnswer is for when the answer's header has come.
func (s *storedBody) hasAnswer() {
	s.answered.Store(true)
	if s.left.Load() <= 0 {
		s.kept.Close()
	}
}

// mustStore reports whether a request's body is read before a target is picked: a worker of php-fpm does nothing else while a body
// comes, so visitors who send slowly would occupy them all.
func (p *Pool) mustStore(r *http.Request) bool {
	if !p.storesBodies || r.Body == nil || r.Body == http.NoBody {
		return false
	}
	_, isStored := r.Body.(*storedBody)
	return !isStored
}

// storeBody is RoundTrip for a request whose body is read first.
func (p *Pool) storeBody(r *http.Request) (*http.Response, error) {
	if err := p.refuses(); err != nil {
		return nil, fmt.Errorf("upstream %q: %w", p.upstream.Name, err)
	}
	kept, err := p.set.bodies.Keep(r.Body, lengthOf(r))
	if err != nil {
		if !errors.Is(err, fastcgi.ErrBodyTooLong) && !errors.Is(err, fastcgi.ErrNoRoom) {
			err = &VisitorError{err}
		}
		return nil, fmt.Errorf("upstream %q: %w", p.upstream.Name, err)
	}
	out := *r
	body := newStoredBody(kept)
	out.Body, out.ContentLength = body, kept.Length
	if kept.Length == 0 {
		out.Body = http.NoBody
	}
	response, err := p.RoundTrip(&out)
	if _, isTunnel := responseTunnel(response); err != nil || isTunnel {
		kept.Close()
		return response, err
	}
	body.hasAnswer()
	response.Body = &storingBody{response.Body, kept}
	return response, nil
}

// refuses returns why a request would be sent to no target right now, whichever there are. It takes no place.
func (p *Pool) refuses() error {
	if p.upstream.Breaker.Percent > 0 {
		if err := p.breaker.refuses(time.Now()); err != nil {
			return err
		}
	}
	if p.isCrowded() {
		return ErrFull
	}
	return nil
}

// lengthOf returns how long a request's body is, -1 if it does not say so.
func lengthOf(r *http.Request) int64 {
	if r.ContentLength > 0 {
		return r.ContentLength
	}
	return -1
}

func responseTunnel(r *http.Response) (io.ReadWriteCloser, bool) {
	if r == nil {
		return nil, false
	}
	tunnel, ok := r.Body.(io.ReadWriteCloser)
	return tunnel, ok
}

// storingBody is an answer's body, with whose end the request's is no longer needed.
type storingBody struct {
	io.ReadCloser
	kept *fastcgi.Kept
}

// Close forgets the request's body.
func (b *storingBody) Close() error {
	err := b.ReadCloser.Close()
	b.kept.Close()
	return err
}

// StatusFor returns the status by which a visitor is told of an error that is neither his nor a broken target's; 0 for others.
func StatusFor(err error) int {
	switch {
	case errors.Is(err, fastcgi.ErrOverloaded), errors.Is(err, fastcgi.ErrNoRoom):
		return http.StatusServiceUnavailable
	case errors.Is(err, fastcgi.ErrBodyTooLong):
		return http.StatusRequestEntityTooLarge
	}
	return 0
}
