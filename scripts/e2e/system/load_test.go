package system

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// report is what a load run prints. Failed requests are never tried again.
type report struct {
	Requests map[string]int `json:"requests"` // by kind of client
	Failures int            `json:"failures"`
	Failed   []string       `json:"failed"` // the first of them
	Slowest  time.Duration  `json:"slowest"`

	mu sync.Mutex
}

func (r *report) note(kind string, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Requests[kind]++
	r.Slowest = max(r.Slowest, took)
	if err == nil {
		return
	}
	r.Failures++
	if len(r.Failed) < 20 {
		r.Failed = append(r.Failed, fmt.Sprintf("%s after %v: %v", kind, took.Round(time.Millisecond), err))
	}
}

const (
	loadHost    = "shop.test"
	loadPatient = 40 * time.Second // waiting is allowed; failing is not
)

// body is sent with every POST.
func body() []byte { return bytes.Repeat([]byte("x"), 2000) }

// load sends requests for some seconds, or until its input ends, and prints a report.
func load(text string) int {
	seconds, err := strconv.Atoi(text)
	if err != nil {
		return 2
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	defer cancel()
	go func() { // ends with the program at the latest
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	r := &report{Requests: map[string]int{}}
	var clients sync.WaitGroup
	for kind, client := range map[string]func() func() error{"h1 keep-alive": keepAlive, "h1 new": newConnection, "h2": oneStream} {
		for range 3 {
			clients.Go(func() {
				ask := client()
				for ctx.Err() == nil {
					began := time.Now()
					err := ask()
					r.note(kind, time.Since(began), err)
				}
			})
		}
	}
	clients.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return 1
	}
	return 0
}

// rawConn is a connection of a client that never asks twice.
type rawConn struct {
	net.Conn
	reader *bufio.Reader
}

func dialPlain() (*rawConn, error) {
	c, err := net.DialTimeout("tcp", "127.0.0.1:80", loadPatient)
	if err != nil {
		return nil, err
	}
	return &rawConn{c, bufio.NewReader(c)}, c.SetDeadline(time.Now().Add(loadPatient))
}

// post sends a POST that cannot be replayed and reads the whole answer. last says that the server ends the connection.
func (c *rawConn) post(header string) (last bool, err error) {
	if err := c.SetDeadline(time.Now().Add(loadPatient)); err != nil {
		return true, err
	}
	if _, err := fmt.Fprintf(c, "POST /form HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %d\r\n\r\n%s", loadHost, header, len(body()), body()); err != nil {
		return true, fmt.Errorf("write: %w", err)
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return true, fmt.Errorf("read: %w", err)
	}
	return response.Close, check(response)
}

func check(response *http.Response) error {
	text, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if response.StatusCode != http.StatusOK || !strings.HasSuffix(string(text), fmt.Sprintf("%d bytes\n", len(body()))) {
		return fmt.Errorf("answer %d %q", response.StatusCode, text)
	}
	return nil
}

// keepAlive asks on one connection for as long as the server keeps it.
func keepAlive() func() error {
	var c *rawConn
	return func() (err error) {
		if c == nil {
			if c, err = dialPlain(); err != nil {
				c = nil
				return fmt.Errorf("dial: %w", err)
			}
		}
		last, err := c.post("")
		if last || err != nil {
			_ = c.Close()
			c = nil
		}
		return err
	}
}

func newConnection() func() error {
	return func() error {
		c, err := dialPlain()
		if err != nil {
			return fmt.Errorf("dial: %w", err)
		}
		defer func() { _ = c.Close() }()
		_, err = c.post("Connection: close\r\n")
		return err
	}
}

// oneStream asks over HTTP/2, one stream at a time. Its body has no GetBody, so net/http cannot send it again.
func oneStream() func() error {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		Protocols:       protocols,
		TLSClientConfig: &tls.Config{ServerName: loadHost, InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:443")
		},
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), loadPatient)
		defer cancel()
		response, err := askUnsent(ctx, transport)
		if err != nil {
			return err
		}
		if response.ProtoMajor != 2 {
			return errors.New("the answer came over " + response.Proto)
		}
		return check(response)
	}
}

// askUnsent posts once. net/http's client may pick a connection that it has just given up, and says then that it cannot
// rewind a body of which it has sent nothing; only where that is proven, the request goes out for the first time.
func askUnsent(ctx context.Context, transport *http.Transport) (*http.Response, error) {
	for {
		var sent atomic.Bool
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaderField: func(string, []string) { sent.Store(true) }})
		request, err := http.NewRequestWithContext(traced, http.MethodPost, "https://"+loadHost+"/form", struct{ io.Reader }{bytes.NewReader(body())})
		if err != nil {
			return nil, err
		}
		request.ContentLength = int64(len(body()))
		response, err := transport.RoundTrip(request)
		if err != nil && !sent.Load() && strings.Contains(err.Error(), "cannot rewind body") {
			continue
		}
		return response, err
	}
}
