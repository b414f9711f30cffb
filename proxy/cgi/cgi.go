// Package cgi runs a program for each request (RFC 3875). It is for whoever sits behind Cutover on a socket that nobody else can
// reach: what the forwarding headers say is believed.
package cgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// Handler runs a program for each request. Its fields must not change once it is in use; use New.
type Handler struct {
	o       Options
	running chan struct{} // has an entry for each process
	stored  chan struct{} // has an entry for each body that is stored
	waiting atomic.Int64
}

// Options says what is run, and within which bounds.
type Options struct {
	Program     []string      // the executable's path, and its arguments
	Environment []string      // KEY=VALUE, of which requests add to
	Processes   int           // at once
	Waiting     int           // requests that wait for room beyond those; others get 503
	TimeLimit   time.Duration // of a request, waiting included
	Spool       int64         // bytes of a body of unknown length, which is stored first; larger ones get 413; as many as Processes at once
	Stderr      *os.File      // where programs complain
	Log         *slog.Logger
}

// New returns a handler of requests.
func New(o Options) *Handler {
	return &Handler{o: o, running: make(chan struct{}, o.Processes), stored: make(chan struct{}, o.Processes)}
}

// problem is an answer of our own.
type problem struct {
	status int
	cause  error
}

func (p *problem) Error() string { return p.cause.Error() }
func (p *problem) Unwrap() error { return p.cause }

// ServeHTTP answers with what the program says. When the visitor leaves, or time is up, the program is killed with all that it
// has started.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), h.o.TimeLimit, errTime)
	defer cancel()
	_ = http.NewResponseController(w).EnableFullDuplex() // a program may answer before it has read all; HTTP/2 always is
	out := &answer{ResponseWriter: w}
	err := h.serve(ctx, cancel, out, r.WithContext(ctx))
	if err == nil {
		return
	}
	status := statusOf(ctx, err)
	h.o.Log.Warn("no whole answer", slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", status), slog.Any("error", err))
	late := errors.Is(context.Cause(ctx), errTime) // which ends the reading of the body, and r.Context() with it
	if out.begun || r.Context().Err() != nil && !late {
		panic(http.ErrAbortHandler) // the visitor must not take half for the whole
	}
	if r.ContentLength != 0 {
		w.Header().Set("Connection", "close") // see answer.whole
	}
	http.Error(w, http.StatusText(status), status)
}

var errTime = errors.New("it took too long, and was killed")

func statusOf(ctx context.Context, err error) int {
	var p *problem
	switch {
	case errors.Is(context.Cause(ctx), errTime):
		return http.StatusGatewayTimeout
	case errors.As(err, &p):
		return p.status
	}
	return http.StatusBadGateway
}

// serve stores a body of unknown length before it takes a place among the processes: whoever sends slowly keeps nobody waiting
// but others who send such bodies.
func (h *Handler) serve(ctx context.Context, cancel context.CancelFunc, w *answer, r *http.Request) error {
	body, length := io.NopCloser(r.Body), r.ContentLength
	if length < 0 {
		if err := h.enter(ctx, h.stored); err != nil {
			return err
		}
		defer func() { <-h.stored }()
		var err error
		if body, length, err = h.store(ctx, w, r.Body); err != nil {
			return err
		}
	}
	defer func() { _ = body.Close() }()
	if err := h.enter(ctx, h.running); err != nil {
		return err
	}
	defer func() { <-h.running }()
	environment, err := h.environment(r, length)
	if err != nil {
		return &problem{http.StatusBadRequest, err}
	}
	return h.run(ctx, cancel, w, r, environment, body)
}

// enter waits for room.
func (h *Handler) enter(ctx context.Context, room chan<- struct{}) error {
	select {
	case room <- struct{}{}:
		return nil
	default:
	}
	defer h.waiting.Add(-1)
	if h.waiting.Add(1) > int64(h.o.Waiting) {
		return &problem{http.StatusServiceUnavailable, fmt.Errorf("%d processes run, and %d requests wait", h.o.Processes, h.o.Waiting)}
	}
	select {
	case room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("it waited for one of %d processes: %w", h.o.Processes, context.Cause(ctx))
	}
}

// run runs the program. It returns when the program and all that read or wrote for it have ended.
func (h *Handler) run(ctx context.Context, cancel context.CancelFunc, w *answer, r *http.Request, environment []string, body io.Reader) error {
	command := exec.Command(h.o.Program[0], h.o.Program[1:]...) //nolint:noctx // ended below, with its children
	command.Env, command.Stderr = environment, h.o.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := command.StdinPipe()
	if err != nil {
		return err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return errors.Join(err, input.Close())
	}
	if err := command.Start(); err != nil {
		return err
	}
	source := &noting{Reader: body}
	w.whole = func() bool { return r.ContentLength <= 0 || source.ended.Load() } // one of unknown length was read before
	end := context.AfterFunc(ctx, func() {
		killGroup(command.Process.Pid)
		_, _ = input.Close(), output.Close() // a process that has left the group may hold the other ends
	})
	fed := make(chan struct{})
	go func() { // ends when the body does, or the program reads no more, or the connection is told to
		defer close(fed)
		if err := feed(input, source); err != nil {
			cancel() // the visitor is gone: nobody wants the answer
		}
	}()
	err = w.copyFrom(output, r.Method)
	if err != nil {
		killGroup(command.Process.Pid)
	}
	ended := command.Wait()
	if err == nil {
		err = brokenOff(ctx, command.ProcessState)
	}
	end()
	awaitFeed(ctx, w, fed)
	if err != nil && ended != nil && !w.begun {
		err = fmt.Errorf("%w (%w)", err, ended)
	}
	return err
}

// brokenOff returns why what a program has said may not be all. Its exit code says nothing of that, but a signal does.
func brokenOff(ctx context.Context, ended *os.ProcessState) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return fmt.Errorf("it was ended by the signal %q", status.Signal())
	}
	return nil
}

// lingers is how long the rest of a body that a program has left unread is waited for.
const lingers = 2 * time.Second

// awaitFeed waits until the body is read, of which the rest is for nobody; when ctx ends, or after a while, it is read no further. A
// connection on which nothing is read must keep its deadline: net/http would take that for its end.
func awaitFeed(ctx context.Context, w *answer, fed <-chan struct{}) {
	select {
	case <-fed:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, lingers)
	defer cancel()
	select {
	case <-fed:
	case <-ctx.Done():
		_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Unix(1, 0))
		<-fed
	}
}

// killGroup ends a program that has not been waited for yet, and what it has started.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) } // it may have ended

// mostUnread is how much is read of what a program leaves unread: a connection that is closed with more to come is reset, and the
// visitor may lose the answer by that (RFC 9112 §9.6).
const mostUnread = 1 << 20

// feed hands a body to the program. That the program does not read it is no error.
func feed(to io.WriteCloser, body *noting) error {
	_, _ = io.Copy(to, body) // only what the visitor does wrong is told
	_ = to.Close()
	if body.err == nil && !body.ended.Load() {
		_, _ = io.CopyN(io.Discard, body, mostUnread)
	}
	return body.err
}

// noting remembers how reading ended.
type noting struct {
	io.Reader
	ended atomic.Bool // all was read
	err   error
}

func (n *noting) Read(p []byte) (int, error) {
	read, err := n.Reader.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		n.ended.Store(true)
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		n.err = err
	}
	return read, err
}

// store returns a body of unknown length, and its length, which a program must be told before.
func (h *Handler) store(ctx context.Context, w *answer, body io.Reader) (io.ReadCloser, int64, error) {
	file, err := os.CreateTemp("", "cgi-body-")
	if err != nil {
		return nil, 0, err
	}
	stop := boundReading(ctx, w)
	length, err := io.Copy(file, io.LimitReader(body, h.o.Spool+1))
	stop()
	if err == nil && length > h.o.Spool {
		err = &problem{http.StatusRequestEntityTooLarge, fmt.Errorf("a body of unknown length has more than %d bytes", h.o.Spool)}
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err = errors.Join(err, os.Remove(file.Name())); err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, length, nil
}

// boundReading ends the reading of a body when ctx ends, until stop is called.
func boundReading(ctx context.Context, w *answer) (stop func()) {
	done := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Unix(1, 0))
	})
	return func() {
		if !end() {
			<-done // the connection is somebody else's when the request has been answered
		}
	}
}
