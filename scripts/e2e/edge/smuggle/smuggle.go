// Package smuggle sends a proxy of one's own requests that two servers in a row may take apart differently, and looks at
// what the server behind it gets: one request too many there would be answered to somebody else (RFC 9112 §11.2).
package smuggle

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// Want is what may become of a request.
type Want string

// What may become of a request.
const (
	Refused Want = "refused"                // with 4xx or 5xx, and nothing is forwarded
	One     Want = "one request"            // is forwarded, whole
	Two     Want = "two requests"           // are forwarded: they are good ones
	Either  Want = "refused or one request" // the standard leaves it to the proxy
)

// Host is the host that the vectors ask for. The proxy must forward it to the recorder.
const Host = "smuggle.test"

// Vector is a request on a connection of its own. In Raw, HOST is the host and /PATH its path; /smuggled is the path that
// the server behind must never see.
type Vector struct {
	Name string
	Raw  string
	Want Want
	Body string // that is to arrive, where one request may be forwarded; empty: any
}

// Outcome is what became of a vector.
type Outcome struct {
	Name   string `json:"name"`
	Want   Want   `json:"want"`
	Got    string `json:"got"`
	Passed bool   `json:"passed"`
}

// patience is for an answer: a proxy may wait for the rest of a request for as long as it likes.
const patience = 2 * time.Second

// Prover sends vectors to a proxy that forwards to its recorder.
type Prover struct {
	Address  string // of the proxy, which forwards Host to the recorder
	Recorder *Recorder
}

// path is that of all good requests.
const path = "/vector"

// Prove sends a vector and judges it. The error says that the proxy could not be asked.
func (p *Prover) Prove(ctx context.Context, v Vector) (Outcome, error) {
	p.Recorder.take()
	status, err := p.send(ctx, v.Raw, v.Want)
	if err != nil {
		return Outcome{}, err
	}
	return p.judged(ctx, v, status)
}

// judged looks at what arrived, also with the next visitor's request.
func (p *Prover) judged(ctx context.Context, v Vector, status int) (Outcome, error) {
	o := Outcome{Name: v.Name, Want: v.Want}
	arrived := p.Recorder.take()
	next, err := p.next(ctx)
	if err != nil {
		return o, err
	}
	fault := v.fault(status, arrived)
	if fault == "" {
		fault = next
	}
	o.Passed, o.Got = fault == "", fmt.Sprintf("%d, %d forwarded", status, len(arrived))
	if fault != "" {
		o.Got += ": " + fault
	}
	return o, nil
}

// moment is how long a proxy may take for an answer too many.
const moment = 150 * time.Millisecond

// send writes the bytes of a vector, and returns the status of the first answer; 0 if there was none. For answers that are
// wanted it waits, for more of them only a moment.
func (p *Prover) send(ctx context.Context, raw string, want Want) (status int, err error) {
	conn, err := p.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	raw = strings.NewReplacer("HOST", Host, "/PATH", path).Replace(raw)
	if _, err := io.WriteString(conn, raw); err != nil {
		return 0, nil //nolint:nilerr // the proxy may end it meanwhile
	}
	reader := bufio.NewReader(conn)
	for got := 0; ; got++ {
		answer, err := http.ReadResponse(reader, nil)
		if err != nil {
			return status, nil //nolint:nilerr // no more answers
		}
		_, _ = io.Copy(io.Discard, answer.Body) // only the status counts
		_ = answer.Body.Close()
		if status < http.StatusOK {
			status = answer.StatusCode
		}
		if want != Two || got > 0 {
			_ = conn.SetReadDeadline(time.Now().Add(moment))
		}
	}
}

func (p *Prover) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// victims ask after each vector, so that each connection that the proxy keeps to the server behind is used again.
const victims = 3

// next is the next visitors' requests: each must get its own answer.
func (p *Prover) next(ctx context.Context) (fault string, err error) {
	for i := range victims {
		want := fmt.Sprintf("/victim-%d", i)
		conn, err := p.dial(ctx)
		if err != nil {
			return "", err
		}
		text, err := ask(conn, Host, want)
		if err = errors.Join(err, conn.Close()); err != nil {
			return "the next visitor's request fails: " + err.Error(), nil
		}
		if text != want {
			return fmt.Sprintf("the next visitor gets the answer to %.40q", text), nil
		}
	}
	for _, r := range p.Recorder.take() {
		if !strings.HasPrefix(r.Path, "/victim-") {
			return fmt.Sprintf("%s %s arrives later", r.Method, r.Path), nil
		}
	}
	return "", nil
}

func ask(conn net.Conn, host, path string) (string, error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", path, host); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(answer.Body)
	return string(text), errors.Join(err, answer.Body.Close())
}

// fault says what is wrong with what arrived; empty if nothing is.
func (v Vector) fault(status int, arrived []Request) string {
	most := map[Want]int{Refused: 0, One: 1, Two: 2, Either: 1}[v.Want]
	if len(arrived) > most {
		return fmt.Sprintf("at most %d should be", most)
	}
	for _, r := range arrived {
		if fault := r.fault(); fault != "" {
			return fault
		}
		if v.Body != "" && r.Body != v.Body {
			return fmt.Sprintf("the body is %.40q", r.Body)
		}
	}
	switch {
	case (v.Want == One || v.Want == Two) && (len(arrived) != most || status != http.StatusOK):
		return "it should be forwarded"
	case len(arrived) == 0 && status != 0 && status < http.StatusBadRequest:
		return "it is answered as if it were good"
	default:
		return ""
	}
}

// fault says what a careful server would not have sent.
func (r Request) fault() string {
	lengths := r.lines("Content-Length")
	switch {
	case r.Path != path:
		return r.Method + " " + r.Path + " arrives"
	case lengths > 1, lengths > 0 && r.lines("Transfer-Encoding") > 0, r.lines("Transfer-Encoding") > 1:
		return "it is forwarded with more than one length"
	case bytes.ContainsAny(bytes.ReplaceAll(r.Head, []byte("\r\n"), nil), "\r\n\x00"):
		return "it is forwarded with control characters"
	default:
		return ""
	}
}

// lines counts header lines of a name, however a lax server may spell it.
func (r Request) lines(name string) (n int) {
	for line := range bytes.SplitSeq(r.Head, []byte("\r\n")) {
		spelled, _, _ := strings.Cut(string(line), ":")
		if strings.EqualFold(strings.TrimSpace(spelled), name) {
			n++
		}
	}
	return n
}
