package load

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"cutover/scripts/e2e/restarts/wire"
)

// expecting ask before they send a body.
func expecting(ctx context.Context, l *Load) {
	every(ctx, 100*time.Millisecond, func(due time.Time) {
		l.once("Expect", due, 0, l.plain, func(c *conn1) error { return c.expect(l.body(2000)) })
	})
}

func (c *conn1) expect(body []byte) error {
	if err := c.begin(); err != nil {
		return err
	}
	head := c.head(http.MethodPost, "/echo", int64(len(body)), "Expect: 100-continue\r\nConnection: close\r\n")
	if _, err := c.Write([]byte(head)); err != nil {
		return during("write of the head", c.seen, err)
	}
	response, err := http.ReadResponse(c.reader, nil) //nolint:bodyclose // a 100 has none, and after anything else the connection is closed
	if err != nil {
		return during("wait for 100", c.seen, err)
	}
	if response.StatusCode != http.StatusContinue {
		return wrong("no 100 but "+http.StatusText(response.StatusCode), c.seen, "%s", response.Status)
	}
	if _, err := c.Write(body); err != nil {
		return during("write of the body", c.seen, err)
	}
	_, err = c.receipt(wire.ReceiptOf(body))
	return err
}

// slowWriters send the head over half of the time, and the body over the other half.
func slowWriters(ctx context.Context, l *Load) {
	every(ctx, 500*time.Millisecond, func(due time.Time) {
		l.once("slow writer", due, l.Slow, l.plain, func(c *conn1) error {
			body := l.body(2000)
			head := c.head(http.MethodPost, "/echo", int64(len(body)), "X-Slow: yes\r\nConnection: close\r\n")
			return c.trickle([]byte(head), body, due, l.Slow)
		})
	})
}

// trickle sends head and body in pieces that are done at the time that was meant.
func (c *conn1) trickle(head, body []byte, due time.Time, meant time.Duration) error {
	if err := c.begin(); err != nil {
		return err
	}
	const pieces = 20
	for i, text := range [][]byte{head, body} {
		began, size := due.Add(meant/2*time.Duration(i)), len(text)/pieces+1
		for n := 0; len(text) > 0; n++ {
			pace(began.Add(meant / 2 * time.Duration(n+1) / pieces))
			part := text[:min(size, len(text))]
			if _, err := c.Write(part); err != nil {
				return during("slow write", c.seen, err)
			}
			text = text[len(part):]
		}
	}
	_, err := c.receipt(wire.ReceiptOf(body))
	return err
}

// lateSpeakers connect, and begin to speak up to that time later. A server that ends the connection before has failed them.
func lateSpeakers(ctx context.Context, l *Load) {
	every(ctx, 250*time.Millisecond, func(due time.Time) {
		meant := rand.N(l.Slow)
		l.once("late speaker", due, meant, l.plain, func(c *conn1) error {
			return c.speakAt(due.Add(meant))
		})
	})
}

func (c *conn1) speakAt(moment time.Time) error {
	usable, err := c.rest(moment)
	if err == nil && !usable {
		err = wrong("closed before the client spoke", 0, "in order, %v before", time.Until(moment).Round(time.Millisecond))
	}
	if err == nil {
		_, err = c.post("/echo", c.load.body(200), "Connection: close\r\n")
	}
	return err
}
