package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// outcome is what a visitor met.
type outcome string

const (
	right  outcome = "right"  // the whole answer to what was asked
	honest outcome = "honest" // 502, 503 or 504
	broken outcome = "broken" // an answer that shows that it is not whole: what came of it is right
	wrong  outcome = "wrong"  // anything else: another's answer, a wrong body, no answer
)

// visit is a request and what came of it.
type visit struct {
	id      string
	began   time.Time
	took    time.Duration
	outcome outcome
	detail  string // what was wrong
}

// answer is what a client got.
type answer struct {
	status int // 0 for no answer at all
	header http.Header
	body   []byte
	err    error // by which it broke off
}

// judge says what an answer is worth to who asked with an id for so many bytes.
func judge(id string, n int, a answer) (outcome, string) {
	want := bytesOf(id, n)
	whose := a.header.Get(answerTo)
	switch {
	case a.status == 0:
		return wrong, fmt.Sprintf("no answer: %v", a.err)
	case a.status == http.StatusBadGateway, a.status == http.StatusServiceUnavailable, a.status == http.StatusGatewayTimeout:
		if a.err != nil {
			return wrong, fmt.Sprintf("half of a %d: %v", a.status, a.err)
		}
		return honest, ""
	case a.status != http.StatusOK:
		return wrong, fmt.Sprintf("%d %.80q", a.status, a.body)
	case whose != id:
		return wrong, fmt.Sprintf("the answer to %q", whose)
	case a.err == nil && bytes.Equal(a.body, want):
		return right, ""
	case a.err != nil && bytes.HasPrefix(want, a.body):
		return broken, ""
	}
	return wrong, fmt.Sprintf("%d bytes of %d, %v: …%.40q", len(a.body), len(want), a.err, a.body[max(0, len(a.body)-40):])
}

// counter gives requests their ids.
type counter struct{ last atomic.Int64 }

func (c *counter) next() string { return "r" + strconv.FormatInt(c.last.Add(1), 10) + "r" }

// asker is a client. It never asks twice.
type asker interface {
	ask(ctx context.Context, method, host, id string, n int) answer
	close()
}

// visit asks and judges.
func visitOnce(ctx context.Context, a asker, ids *counter, method, host string, n int) visit {
	v := visit{id: ids.next(), began: time.Now()}
	got := a.ask(ctx, method, host, v.id, n)
	v.took = time.Since(v.began)
	v.outcome, v.detail = judge(v.id, n, got)
	return v
}

// clientPatience is longer than anything that cutover may take.
const clientPatience = 30 * time.Second

// h1 speaks HTTP/1.1 on one connection, for as long as the server keeps it.
type h1 struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

func (c *h1) close() {
	if c.conn != nil {
		_ = c.conn.Close() // it was only read
		c.conn = nil
	}
}

func (c *h1) ask(ctx context.Context, method, host, id string, n int) (a answer) {
	if c.conn == nil {
		conn, err := (&net.Dialer{Timeout: clientPatience}).DialContext(ctx, "tcp", c.address)
		if err != nil {
			return answer{err: err}
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	a, last := c.exchange(method, host, id, n)
	if last || a.err != nil || a.status == 0 {
		c.close()
	}
	return a
}

func (c *h1) exchange(method, host, id string, n int) (a answer, last bool) {
	_ = c.conn.SetDeadline(time.Now().Add(clientPatience)) // it is open
	var sent []byte
	if method == http.MethodPost {
		sent = bytesOf(id, sentBytes)
	}
	head := fmt.Sprintf("%s /?id=%s&bytes=%d HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", method, id, n, host, len(sent))
	if method == http.MethodGet {
		head = fmt.Sprintf("%s /?id=%s&bytes=%d HTTP/1.1\r\nHost: %s\r\n\r\n", method, id, n, host)
	}
	_, lost := c.conn.Write(append([]byte(head), sent...)) // an answer may have come all the same
	for {
		response, err := http.ReadResponse(c.reader, nil)
		if err != nil {
			return answer{err: fmt.Errorf("%w (%w)", err, orNone(lost))}, true
		}
		if response.StatusCode < 200 {
			continue
		}
		a = answer{status: response.StatusCode, header: response.Header}
		a.body, a.err = io.ReadAll(response.Body)
		_ = response.Body.Close() // it was only read
		return a, response.Close
	}
}

type noError struct{}

func (noError) Error() string { return "all was sent" }

func orNone(err error) error {
	if err == nil {
		return noError{}
	}
	return err
}

// h2 speaks HTTP/2 over TLS.
type h2 struct{ transport *http.Transport }

func newH2(address string, roots *x509.CertPool) *h2 {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &h2{&http.Transport{
		Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
	}}
}

func (c *h2) close() { c.transport.CloseIdleConnections() }

func (c *h2) ask(ctx context.Context, method, host, id string, n int) (a answer) {
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	body := io.Reader(http.NoBody)
	if method == http.MethodPost {
		body = struct{ io.Reader }{bytes.NewReader(bytesOf(id, sentBytes))} // which net/http cannot send again
	}
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("https://%s/?id=%s&bytes=%d", host, id, n), body)
	if err != nil {
		return answer{err: err}
	}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	a = answer{status: response.StatusCode, header: response.Header}
	a.body, a.err = io.ReadAll(response.Body)
	return a
}
