package tlsbridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3"
	"go.uber.org/zap"
)

// DNSProver proves names to a CA by the DNS: *DNSUpdate or *DNSHook.
type DNSProver interface {
	solver(logger *zap.Logger) acmez.Solver
}

// DNSHook proves names by a program of the operator's that writes to the DNS: see DNSProgram, which runs it as a user of its own,
// behind a socket. One runs at a time in a process.
type DNSHook struct {
	Socket    string        // of cutover-dns.socket
	Time      time.Duration // for one run; 0 means a minute
	Resolvers []string      // host:port of who is asked whether the record is there; none stands for the zone's own servers
	Log       *slog.Logger  // gets what the program writes to its standard error

	once sync.Once
	turn chan struct{}
}

const (
	hookTime    = time.Minute
	hookQueue   = 5 * time.Minute // for a turn to clean up
	hookStart   = time.Minute     // beyond the program's own time: for systemd to start what runs it, on a busy machine
	hookPresent = "present"
	hookCleanup = "cleanup"
	hookCheck   = "check" // runs nothing
)

// hookRequest is the line that a hook writes to the socket.
type hookRequest struct {
	Action string `json:"action"`
	Name   string `json:"name"`  // of the record, with a dot at its end
	Value  string `json:"value"` // its text
}

// hookAnswer is the line that it reads then.
type hookAnswer struct {
	Said  string `json:"said"`  // the beginning of what the program wrote to its standard error
	Error string `json:"error"` // empty: it is done
}

func (h *DNSHook) solver(logger *zap.Logger) acmez.Solver {
	return dnsSolver{&certmagic.DNS01Solver{DNSManager: certmagic.DNSManager{DNSProvider: h, TTL: recordTTL, Resolvers: h.Resolvers, Logger: logger}}}
}

// AppendRecords implements libdns.RecordAppender.
func (h *DNSHook) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, h.each(ctx, hookPresent, zone, records)
}

// DeleteRecords implements libdns.RecordDeleter.
func (h *DNSHook) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return records, h.each(ctx, hookCleanup, zone, records)
}

func (h *DNSHook) each(ctx context.Context, action, zone string, records []libdns.Record) error {
	for _, record := range records {
		rr := record.RR()
		name := strings.TrimSuffix(libdns.AbsoluteName(rr.Name, zone), ".") + "."
		if err := h.inTurn(ctx, action, name, rr.Data); err != nil {
			return fmt.Errorf("the DNS hook: %s %s: %w", action, name, err)
		}
	}
	return nil
}

// inTurn runs the program when no other run is under way. What is cleaned up has its time from then on: it was certmagic's, for the
// wait as well, and nobody would clean up later.
func (h *DNSHook) inTurn(ctx context.Context, action, name, value string) error {
	waiting := ctx
	if action == hookCleanup {
		ctx = context.WithoutCancel(ctx)
		bounded, cancel := context.WithTimeout(ctx, hookQueue)
		defer cancel()
		waiting = bounded
	}
	done, err := h.takeTurn(waiting)
	if err != nil {
		return fmt.Errorf("it did not get its turn: %w", err)
	}
	defer done()
	return h.run(ctx, action, name, value)
}

// takeTurn waits until no other run is under way.
func (h *DNSHook) takeTurn(ctx context.Context) (done func(), err error) {
	h.once.Do(func() { h.turn = make(chan struct{}, 1) })
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *DNSHook) run(ctx context.Context, action, name, value string) error {
	answer, err := h.ask(ctx, hookRequest{action, name, value})
	if err != nil {
		return err
	}
	h.report(action, name, answer.Said)
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// Check says why the program would not be run, or cannot be.
func (h *DNSHook) Check(ctx context.Context) error { return h.run(ctx, hookCheck, "", "") }

// ask connects, says a request and reads the answer. The program is ended when ctx is, since the connection is then.
func (h *DNSHook) ask(ctx context.Context, request hookRequest) (answer hookAnswer, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, orDefault(h.Time, hookTime)+hookStart, errors.New("systemctl status cutover-dns.socket 'cutover-dns@*'"))
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", h.Socket)
	if err != nil {
		return answer, fmt.Errorf("nobody listens for it: sudo cutover units install && sudo systemctl daemon-reload && sudo systemctl start cutover-dns.socket: %w", err)
	}
	defer func() { _ = c.Close() }() // all that was to be read was
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	err = json.NewEncoder(c).Encode(request)
	if err == nil {
		err = json.NewDecoder(io.LimitReader(c, maxHookLine)).Decode(&answer)
	}
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return answer, fmt.Errorf("it has not answered: %w", context.Cause(ctx))
	}
	return answer, fmt.Errorf("it was ended, or too many run: journalctl -u 'cutover-dns@*': %w", err)
}

func (h *DNSHook) report(action, name, text string) {
	if h.Log == nil {
		return
	}
	for line := range strings.Lines(text) {
		h.Log.Info("the DNS hook says", slog.String("action", action), slog.String("name", name), slog.String("line", strings.TrimSpace(line)))
	}
}
