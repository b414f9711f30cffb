package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"cutover/scripts/e2e/restarts/wire"
)

// conn1 is a connection of an HTTP/1.1 client that never asks twice.
type conn1 struct {
	net.Conn
	load   *Load
	reader *bufio.Reader
	seen   int64 // bytes that came since the last request began
}

// Read is net.Conn's, counted.
func (c *conn1) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.seen += int64(n)
	return n, err
}

func (l *Load) newConn1(conn net.Conn) *conn1 {
	c := &conn1{Conn: conn, load: l}
	c.reader = bufio.NewReader(c)
	return c
}

// plain connects without TLS.
func (l *Load) plain() (*conn1, error) {
	conn, err := l.dial(l.Plain)
	if err != nil {
		return nil, err
	}
	return l.newConn1(conn), nil
}

// secure connects with TLS.
func (l *Load) secure() (*conn1, error) {
	conn, err := l.dialTLS(nil, "http/1.1")
	if err != nil {
		return nil, err
	}
	return l.newConn1(conn), nil
}

// head is that of a request; more are header lines, each with its end.
func (c *conn1) head(method, path string, length int64, more string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n%s\r\n", method, path, c.load.Host, length, more)
}

// post sends a body to path, reads the receipt, and reports whether the server ends the connection.
func (c *conn1) post(path string, body []byte, more string) (last bool, err error) {
	if err := c.begin(); err != nil {
		return true, err
	}
	if _, err := c.Write(append([]byte(c.head(http.MethodPost, path, int64(len(body)), more)), body...)); err != nil {
		return true, during("write", c.seen, err)
	}
	return c.receipt(wire.ReceiptOf(body))
}

// begin is for a new request.
func (c *conn1) begin() error {
	c.seen = int64(c.reader.Buffered())
	return during("deadline", 0, c.load.renew(c.Conn))
}

// receipt reads an answer, which must be this one.
func (c *conn1) receipt(want string) (last bool, err error) {
	response, err := c.answer()
	if err != nil {
		return true, err
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return true, during("answer", c.seen, err)
	}
	if string(text) != want {
		return true, wrong("the service got something else", c.seen, "it says %.80q, want %q", text, want)
	}
	if response.Close {
		c.load.Record.count(func(r *Report) *int { return &r.LastAnswers })
	}
	return response.Close, nil
}

// answer reads the head of a final answer, which must be a good one.
func (c *conn1) answer() (*http.Response, error) {
	for {
		response, err := http.ReadResponse(c.reader, nil)
		if err != nil {
			return nil, during("answer", c.seen, err)
		}
		if response.StatusCode >= http.StatusContinue && response.StatusCode < http.StatusSwitchingProtocols {
			continue
		}
		if response.StatusCode >= http.StatusBadRequest {
			text, _ := io.ReadAll(io.LimitReader(response.Body, 100)) // to tell
			return nil, wrong("status "+http.StatusText(response.StatusCode), c.seen, "%s: %s", response.Status, text)
		}
		return response, nil
	}
}

// rest keeps a connection for a while without asking. It reports whether it can be used afterwards. A server may end it in
// order (RFC 9112 §9.5); anything else that comes is an error.
func (c *conn1) rest(until time.Time) (usable bool, err error) {
	if err := c.SetReadDeadline(until); err != nil {
		return false, during("deadline", 0, err)
	}
	c.seen = 0
	_, err = c.reader.Peek(1)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return true, nil
	case errors.Is(err, io.EOF):
		return false, nil
	case err != nil:
		return false, during("at rest", 0, err)
	default:
		return false, wrong("at rest: unasked bytes", c.seen, "%d bytes", c.seen)
	}
}
